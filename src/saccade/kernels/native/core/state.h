// The memory of one stream while it runs: pointers into what the caller owns, and scratch of its own.
#pragma once
#include <algorithm>
#include <functional>
#include <vector>

#include "program.h"
#include "team.h"

namespace saccade {

struct RecordOf {
    Record form = Record::none;
    void* data = nullptr;
    int64_t stride = 0;
    Type type = Type::f32;
    float threshold = 0;
    const float* weights = nullptr;
};

// Where a changing value's change lies: 0 throughout but from the value's step to the last that reads it. Without `last`, `keep` writes it while it writes the value.
struct ChangeOf {
    Change change{};
    void* last = nullptr;  // rows side by side, as they were last announced
};

// What a frame gives for one argument of the model.
struct FrameInput {
    const float* planar = nullptr;    // the argument itself, contiguous
    const float* rows = nullptr;      // or its rows, with a mask of those that may have changed
    const uint8_t* changed = nullptr;
};

// Positions of a value to compute in a frame whatever changed.
struct Forced {
    int32_t value = -1;
    const uint8_t* mask = nullptr;
};

struct Ledger {
    std::vector<int64_t> active, announced;  // per plan step: positions
    std::vector<int64_t> executed, gate;     // per plan step: macs, macs of deciding
    std::vector<int8_t> whole;                     // all positions, known without spreading masks
    std::vector<double> seconds;
    int64_t executed_macs = 0, gate_macs = 0;
};

class State {
public:
    State(const Program& program, int threads);
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    // Runs every step. Returns -1, or the number of the argument that holds a value which is not finite: then nothing
    // has changed. `callback(step, first)` runs a step outside and sets its masks and counts.
    using Callback = std::function<void(int32_t step, bool first)>;
    int32_t run(const std::vector<FrameInput>& inputs, bool first, const std::vector<Forced>& forced,
                const Callback& callback);
    // Fills what only moves data anew, after the caller has replaced the values.
    void rebuild();

    void set_buffer(int32_t buffer, void* data) { buffers_.at(size_t(buffer)) = static_cast<char*>(data); }
    void set_mask(int32_t mask, void* data) { masks_.at(size_t(mask)) = static_cast<uint8_t*>(data); }
    void set_last(int32_t slot, float* data);  // a copy of the argument `slot` as it last was
    void set_record(int32_t value, const RecordOf& record) { records_.at(size_t(value)) = record; }
    // What it points to is 0.
    void set_change(int32_t changing, const ChangeOf& change) { changes_.at(size_t(changing)) = change; }
    void set_sum(int32_t sum, float* data) { sums_.at(size_t(sum)) = data; }
    void set_counts(int32_t value, int64_t active, int64_t announced);
    void set_executed(int64_t macs) { outside_macs_ = macs; }  // of the step that ran outside
    int64_t active_count(int32_t value) const { return counts_[size_t(program_.values().at(size_t(value)).active)]; }
    void set_profiling(bool on) { profiling_ = on; }
    std::vector<std::string> forms() const;  // per plan step, in the ledger's words
    const Ledger& ledger() const { return ledger_; }
    int64_t scratch_bytes() const { return scratch_bytes_; }

private:
    // Whether a value announced everywhere makes every position of the step active.
    enum class Reaches : int8_t { unknown, all, some };

    Rows rows(const Value& v) const;
    int64_t& count(int32_t mask) { return counts_[size_t(mask)]; }
    void clear(int32_t mask);
    void enter(const Step& step, bool first);
    bool finite(const Step& step, const FrameInput& input);
    int64_t changed_positions(const Step& step, const FrameInput& input, bool first);
    void run_input(const Step& step, const FrameInput& input, bool first);
    void run_rows(const Step& step, bool first);
    void run_gated(const Step& step, bool first);
    int64_t find_fires(const Step& step, const Value& out, uint8_t* fires);
    int64_t refresh_forced(const Step& step, const Value& out, const uint8_t* forced, uint8_t* fires);
    void score_touched(const Step& step, const int32_t* touched, int64_t n, uint8_t* fires);
    enum class Source { whole, change, sum };  // of fresh rows: the convolution of x, of r, or z as it is
    void run_source(const Step& step, Source source, const int32_t* positions, int64_t n);
    struct Bands;
    Bands bands_of(const Step& step, int32_t frames, int32_t computed, int32_t reach, int64_t ld) const;
    int64_t allocate_frames();  // bytes
    void run_dynamic(const Step& step, bool first);
    void fill(const Step& step);
    void run_undivided(const Step& step, const Spread& how);
    void make_frame(const Step& step, int32_t frame, int32_t t, const float* time, int32_t kept);
    void compute_lines(const Step& step, int32_t first, int32_t option, int32_t kept, const Bands& bands);
    void sum_lines(const Step& step, int32_t first, int32_t kept, const Bands& computed, const Bands& summed);
    void emit_lines(const Step& step, int32_t from, int32_t to, int64_t stride, const Bands& computed,
                    const Bands& summed);
    void add_to_lines(const Step& step, int64_t at, int64_t n, const float* fresh, int64_t ld);
    int64_t sums_of(const Step& step) const;
    void begin_sums(const Step& step);
    void sum_again(int32_t sums);
    int64_t finish(const Step& step, const std::vector<RowOp>& ops, const int32_t* positions, int64_t n, float* fresh,
                   int64_t ld);
    void find_change(size_t changing);
    void clear_change(size_t changing);
    template <class Work>
    int64_t over_tasks(int64_t tasks, const Work& work);
    template <class Work>
    int64_t over_chunks(const Step& step, const int32_t* positions, int64_t n, const Work& work);
    void run_move(const Step& step, bool first);
    void run_masks(const Step& step, bool first);
    void rebuild_move(const Step& step);
    bool all_active(const Step& step, const Value& out, uint8_t* mask);
    void spread(const Step& step, const Support& support, const Value& out, uint8_t* mask);
    int64_t derive(const Step& step, const Value& out, const uint8_t* forced, uint8_t* mask);
    void produce(const Step& step, int thread, const int32_t* positions, int64_t n, int64_t ld);
    void copy_part(const MovePart& part, const Value& out, const int32_t* positions, int64_t n);
    int64_t keep(const Value& v, int32_t id, const int32_t* positions, int64_t n, const float* rows, int64_t ld,
                 const Summing& summing = {});
    bool sums_while_keeping(const Step& step, const std::vector<RowOp>& ops, bool adds, Summing& summing) const;
    std::vector<RowOp>& bind_ops(const Step& step);

    const Program& program_;
    const Kernels& k_;
    std::vector<char*> buffers_;
    std::vector<uint8_t*> masks_;
    std::vector<int64_t> counts_;  // per mask
    std::vector<RecordOf> records_;
    std::vector<ChangeOf> changes_;
    std::vector<int32_t> change_of_;  // per value, -1: none
    std::vector<const uint8_t*> forced_;  // per value, of the frame that runs
    std::vector<float*> sums_;
    Aligned<uint8_t> touched_;        // of the gated step that runs
    Aligned<float> scores_;
    int64_t fired_ = 0, deciding_ = 0;  // of the gated step that ran: positions, macs
    struct Made {  // a frame of a dynamic step: a sum of computed frames, or one of them as it is, and its channels
        FrameSum sum{};
        int32_t sources[2 * most_options];
        bool plain = true;
        Spread channels{};
    };
    std::vector<Made> made_;  // of the dynamic step that runs
    struct LineSums {
        Aligned<float> rows;  // one per line
        bool valid = false;   // they are those of the value
    };
    std::vector<LineSums> line_sums_;  // of each of `Program::line_sums`
    Aligned<float> frames_, summed_, sums_of_frames_;  // lines of computed frames, of their sums, the sums' weights
    int64_t dynamic_macs_ = 0;                         // of the dynamic step that ran
    int64_t outside_macs_ = 0;
    bool reference_ = false;            // a reference frame: nothing is compared with a record
    std::vector<float*> last_;
    std::vector<int8_t> last_valid_;
    std::vector<RowOp> ops_;
    Aligned<int32_t> positions_, everyone_;  // a list of positions; 0, 1, 2 ...
    std::vector<std::vector<Reaches>> reaches_;  // per step and support
    struct Workspace {
        Aligned<float> fresh;
        Aligned<char> scratch;
        int64_t announced = 0;
    };
    std::vector<Workspace> workspaces_;  // one for each thread
    Team team_;
    int64_t scratch_bytes_ = 0;
    Ledger ledger_;
    bool profiling_ = false;
};

constexpr int64_t rows_per_chunk = 256;  // positions per call of what is no convolution

// Rows that stay in the nearest cache.
inline int64_t rows_near(int64_t ld) { return std::max<int64_t>(8, 4096 / ld); }

// Calls work(thread, task) for every task; returns what all threads announced.
template <class Work>
int64_t State::over_tasks(int64_t tasks, const Work& work) {
    for (Workspace& space : workspaces_) space.announced = 0;
    team_.run(tasks, work);
    int64_t announced = 0;
    for (const Workspace& space : workspaces_) announced += space.announced;
    return announced;
}

// Calls work(thread, positions, how many) for pieces of a list; returns what all threads announced.
template <class Work>
int64_t State::over_chunks(const Step& step, const int32_t* positions, int64_t n, const Work& work) {
    const bool convolves = step.kind == Kind::convolve || step.kind == Kind::gated || step.kind == Kind::dynamic;
    int64_t chunk = convolves ? k_.convolve_chunk(step.convolution) : rows_per_chunk;
    if (team_.size() > 1) {  // enough pieces for everyone, of whole tiles
        const int64_t share = (n / (2 * team_.size()) + 95) / 96 * 96;
        chunk = std::max<int64_t>(96, std::min(chunk, share));
    }
    return over_tasks((n + chunk - 1) / chunk, [&](int thread, int64_t task) {
        const int64_t at = task * chunk;
        work(thread, positions + at, std::min(chunk, n - at));
    });
}

}  // namespace saccade
