// Threads that share the work of one stream's steps. They sleep between frames and spin briefly between steps.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace saccade {

class Team {
public:
    explicit Team(int threads);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return int(workers_.size()) + 1; }
    // Calls work(thread, task) for every task; the caller is thread 0. Returns when all are done.
    template <class Work>
    void run(int64_t tasks, const Work& work) {
        run_call(tasks, [](const void* of, int thread, int64_t task) { (*static_cast<const Work*>(of))(thread, task); },
                 &work);
    }

private:
    using Call = void (*)(const void* work, int thread, int64_t task);

    void run_call(int64_t tasks, Call call, const void* work);
    void serve(int thread);
    void take(int thread);

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<uint64_t> round_{0};
    std::atomic<int64_t> next_{0};
    std::atomic<int> busy_{0};
    std::atomic<bool> stop_{false};
    int64_t tasks_ = 0;
    Call call_ = nullptr;
    const void* work_ = nullptr;
};

}  // namespace saccade
