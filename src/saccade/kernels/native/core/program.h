// A plan as the engine runs it: values, and steps that fill them. Shared by any number of streams, never changed by one.
#pragma once
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "../kernels.h"
#include "aligned.h"

namespace saccade {

// Rows of a value: where they lie in which of the state's buffers, and which masks tell of them.
struct Value {
    int64_t positions = 0, channels = 0;
    int32_t buffer = -1;
    int64_t offset = 0, stride = 0;  // elements
    Type type = Type::f32;
    int32_t active = -1, announced = -1;  // masks; views share those of what they look at
    bool kept = false;                    // compared with a record and written by `keep`
    bool consumed = false;                // some step reads it
};

// Which output positions an announced position of `value` makes active.
struct Support {
    // Same position; under a window; map[position]; any of members[position]; what a linear interpolation reads.
    enum class Kind { same, window, map, members, axes } kind = Kind::same;
    int32_t value = -1;
    Window window{};
    int32_t transposed = 0;
    const int32_t* index = nullptr;  // map: [positions]; members: [positions][count]; -1 is nothing
    int64_t count = 0;
};

// A row operation whose operand may be another value.
struct ValueOp {
    RowOp op{};
    int32_t value = -1;  // Operand::rows of a value; -1: constant rows, or another operand
};

// Part of a step that moves data: channels of the rows of `source` become channels of the output's.
struct MovePart {
    int32_t source = -1;
    const int32_t* map = nullptr;       // source row of each output position, -1 for none; null is the position itself
    const int32_t* channels = nullptr;  // source channel of each; null: consecutive from `from`
    int64_t from = 0, to = 0, count = 0;
};

// A value whose change gated convolutions read: its rows, the sums of their absolute numbers, or both. The rows lie in
// memory shared by values whose changes are not needed at the same time, so that they stay in the cache.
struct Changing {
    int32_t value = -1;
    bool rows = false, norms = false;
    int32_t slot = -1;            // of `Program::change_slots`
    int32_t made = -1, read = -1; // the step that makes the value, and the last that reads its change
};

// A gated convolution, beside its convolution. Its own supports are those of the epilogue.
struct Gated {
    Support window;           // of the input that the convolution and its gate read
    Scoring scoring{};
    bool norm = false;        // the gate reads the sums, not the rows
    bool residual = false;    // z += w * r; else z = w * x + bias
    bool quiet_fires = false; // the gate fires where nothing changed
    int32_t block = 1;
    int32_t changing = -1;    // of `Program::changing`
    int32_t sum = -1;         // of `Program::sums`: z is kept apart; -1: the output is z
    const float* bias = nullptr;  // residual: the convolution is packed without
    int64_t macs = 0;         // of the convolution at every position
};

// A dynamic convolution, beside its convolution: what VA-RED2's options leave out, and what rebuilds it.
struct Dynamic {
    int32_t time = -1, channels = -1;  // values: the options' weights, at one position; -1: one option, all of it
    int32_t frames = 1;
    int64_t plane = 1;                 // positions of a frame
    std::vector<int32_t> kept;         // channels that each option computes
    std::vector<const float*> before, after;  // per option of time but the first: (2^k - 1) x channels; null: 1, 0
    std::vector<const float*> filters;        // per option of channels but the first, as of `Spread`
    int32_t kernel[2] = {1, 1};        // of the filters
    int64_t macs = 0;                  // of the convolution at every position
    int32_t sums = -1;                 // of `Program::line_sums`: the sums over each line are made along with it

    size_t time_options() const { return before.size() + 1; }
};

// `alias` does nothing: its output is its input under another name.
enum class Kind { input, convolve, gated, dynamic, pool, interpolate, reduce, normalise, load, move, masks, alias, callback };

// What the ledger knows of a step of the plan.
struct PlanRow {
    int64_t macs, positions;
};

struct Step {
    Kind kind = Kind::load;
    int32_t plan_step = -1;  // row of the ledger
    std::vector<int32_t> inputs, outputs;
    std::vector<Support> supports;
    std::vector<ValueOp> ops;
    std::vector<MovePart> parts;
    bool fills = false;     // move: some elements have no source, and hold `fill`
    float fill = 0;
    // what the kind needs
    Convolution convolution{};
    Gated gated{};
    Dynamic dynamic{};
    Pooling pooling{};
    Interpolation interpolation{};
    Reduction reduction{};
    int32_t summed = -1;           // reduce: of `Program::line_sums`, which has what it gives
    Normalisation normalisation{};
    const int32_t* map = nullptr;  // load
    int32_t broadcast = 0;         // load
    int64_t outer = 1, inner = 1;  // input: element (o, c, i) of the caller's tensor
    int32_t slot = 0;              // input: which argument
};

class Program {
public:
    explicit Program(const std::string& isa);
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;

    const Kernels& kernels() const { return kernels_; }
    const std::vector<Value>& values() const { return values_; }
    const std::vector<Step>& steps() const { return steps_; }
    const std::vector<int64_t>& buffers() const { return buffers_; }  // bytes each
    const std::vector<int64_t>& masks() const { return masks_; }      // positions each
    int64_t weight_bytes() const { return weight_bytes_; }

    int32_t add_value(int64_t positions, int64_t channels, Type type, bool kept);
    // A value inside another's buffer. Shares its masks where it has the same positions.
    int32_t add_view(int32_t of, int64_t positions, int64_t channels, int64_t offset, int64_t stride, bool kept,
                     bool own_masks);
    // What changes of a value are asked for, joined with what was asked before. Returns its place in `changing`.
    int32_t add_change(int32_t value, bool rows, bool norms);
    const std::vector<Changing>& changing() const { return changing_; }
    const std::vector<int64_t>& change_slots() const { return change_slots_; }  // bytes each
    int32_t add_sum(int32_t value);  // the value whose step keeps z apart; returns its place in `sums`
    const std::vector<int32_t>& sums() const { return sums_; }
    const std::vector<int32_t>& line_sums() const { return line_sums_; }  // dynamic steps
    Step& add_step(Kind kind, int32_t plan_step);  // stays where it is until `finish`
    void finish();                                 // no step is added afterwards
    Value& value(int32_t id);

    // Copies that live as long as the program.
    const int32_t* keep_indices(const int32_t* from, int64_t count);
    const float* keep_numbers(const float* from, int64_t count);
    void add_row(int64_t macs, int64_t positions) { rows_.push_back({macs, positions}); }
    const std::vector<PlanRow>& rows() const { return rows_; }
    void pack(Convolution& convolution, const float* weight, const float* bias);

private:
    int32_t add_mask(int64_t positions);
    void place_changes();
    void find_line_sums();

    const Kernels& kernels_;
    std::vector<Value> values_;
    std::deque<Step> building_;
    std::vector<Step> steps_;
    std::vector<int64_t> buffers_, masks_;
    std::vector<PlanRow> rows_;
    std::vector<Changing> changing_;
    std::vector<int32_t> sums_, line_sums_;
    std::vector<int64_t> change_slots_;
    std::vector<Aligned<char>> owned_;
    int64_t weight_bytes_ = 0;
};

}  // namespace saccade
