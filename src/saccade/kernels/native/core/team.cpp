#include "team.h"

#include "denormals.h"

namespace saccade {

namespace {

constexpr int spins = 2000;  // some microseconds: steps follow one another faster than a thread falls asleep

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
}

}  // namespace

Team::Team(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { serve(i); });
}

Team::~Team() {
    {
        std::lock_guard<std::mutex> hold(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void Team::take(int thread) {
    for (int64_t task = next_.fetch_add(1); task < tasks_; task = next_.fetch_add(1)) call_(work_, thread, task);
}

void Team::run_call(int64_t tasks, Call call, const void* work) {
    if (workers_.empty() || tasks < 2) {
        for (int64_t task = 0; task < tasks; ++task) call(work, 0, task);
        return;
    }
    tasks_ = tasks;
    call_ = call;
    work_ = work;
    next_ = 0;
    busy_ = int(workers_.size());
    {
        std::lock_guard<std::mutex> hold(mutex_);
        round_.fetch_add(1);
    }
    wake_.notify_all();
    take(0);
    while (busy_.load() > 0) pause();
}

void Team::serve(int thread) {
    const NoDenormals fast;
    uint64_t seen = 0;
    for (;;) {
        for (int i = 0; i < spins && round_.load() == seen && !stop_; ++i) pause();
        if (round_.load() == seen) {
            std::unique_lock<std::mutex> hold(mutex_);
            wake_.wait(hold, [&] { return round_.load() != seen || stop_; });
        }
        if (stop_) return;
        seen = round_.load();
        take(thread);
        busy_.fetch_sub(1);
    }
}

}  // namespace saccade
