// The kernel list: every routine that is compiled once per instruction set, and the plain data it works on.
//
// Positions and rows. A value of a plan is a matrix of rows: one row per position, holding its channels. Position
// indices count batch, depth, height, width, in that order (absent axes have size 1). Producers compute fresh fp32
// rows for a list of positions into a scratch matrix; `apply` runs the fused elementwise calls over it; `keep`
// compares it with what was announced, writes it back and marks what to announce.
//
// Every output element is one chain of operations whose order depends on the position alone, never on which other
// positions are computed beside it: that makes sparse and complete passes equal bit for bit.
#pragma once
#include <cstddef>
#include <cstdint>

namespace saccade {

enum class Type : int32_t { f32 = 0, bf16 = 1 };

inline int64_t size_of(Type type) { return type == Type::f32 ? 4 : 2; }

// Rows of a value in memory; `stride` counts elements from one row to the next (at least the channels).
struct Rows {
    const void* data;
    int64_t stride;
    Type type;
};

// Sizes and steps over depth, height and width. Of a transposed convolution `in` and `out` are its own input and output.
struct Window {
    int32_t batch;
    int32_t in[3], out[3];
    int32_t kernel[3], stride[3], pad[3], dilation[3];
};

inline int64_t positions_in(const Window& w) { return int64_t(w.batch) * w.in[0] * w.in[1] * w.in[2]; }
inline int64_t positions_out(const Window& w) { return int64_t(w.batch) * w.out[0] * w.out[1] * w.out[2]; }

// A convolution. Weights are packed once per instruction set by `Kernels::pack`.
struct Convolution {
    Window window;
    int32_t in_channels, out_channels, groups;
    int32_t transposed;
    Type type;           // of the input rows and of the arithmetic; accumulation is fp32
    const void* packed;  // from `pack`
};

enum class Pool : int32_t { max = 0, average = 1 };

struct Pooling {
    Window window;
    int32_t channels;
    Pool kind;
    int32_t count_include_pad;
    int32_t divisor_override;  // 0: none
    Type type;
};

// Linear interpolation over depth, height and width: the output at index i of axis a is
// (1 - weight[a][i]) * in[low[a][i]] + weight[a][i] * in[high[a][i]]. An axis that keeps its size has weight 0.
struct Interpolation {
    int32_t batch, channels;
    int32_t in[3], out[3];
    const int32_t* low[3];
    const int32_t* high[3];
    const float* weight[3];
    Type type;
};

enum class Reduce : int32_t { sum = 0, mean = 1, max = 2, min = 3 };

// Each output position reduces the input positions members[position * count ...], channel by channel: up to `count` of
// them, at least one; -1 behind the last.
struct Reduction {
    int32_t channels, count;
    const int32_t* members;
    Reduce kind;
    Type type;
};

enum class Line : int32_t { softmax = 0, log_softmax = 1, layer_norm = 2 };

// Normalisation of each row along its channels. Layer norm: scale and shift per channel, each may be null.
struct Normalisation {
    int32_t channels;
    Line kind;
    float epsilon;
    const float* scale;
    const float* shift;
    Type type;
};

// One elementwise operation on the scratch rows. r is the row, o the operand.
enum class Op : int32_t {
    add = 0,       // r + alpha * o
    sub,           // r - alpha * o
    rsub,          // o - alpha * r
    mul,           // r * o
    div,           // r / o
    rdiv,          // o / r
    maximum,       // NaN in either gives NaN
    minimum,
    relu,          // NaN stays NaN
    clamp,         // between alpha and beta; NaN stays NaN
    leaky_relu,    // r > 0 ? r : alpha * r
    prelu,         // r > 0 ? r : o * r
    sigmoid,
    silu,
    tanh,
    gelu,          // exact, with erf
    gelu_tanh,
    hardswish,     // r * min(max(r + 3, 0), 6) / 6
    hardsigmoid,   // min(max(r + 3, 0), 6) / 6
    elu,           // r > 0 ? beta * r : beta * alpha * (exp(r * gamma) - 1)
    softplus,      // alpha = beta of torch, beta = threshold of torch
    mish,
    exp,
    log,
    sqrt,
    rsqrt,
    reciprocal,
    neg,
    abs,
    square,
    power,         // r ** alpha, alpha any real (exact for small whole numbers by multiplication as torch does)
    round_bf16,    // to the nearest bf16, ties to even (what storing and loading would do)
    count_         // number of operations
};

// In the order of `Op`; Python knows the operations by these names.
inline constexpr const char* op_names[] = {
    "add",     "sub",     "rsub", "mul",       "div",       "rdiv",        "maximum", "minimum",  "relu",
    "clamp",   "leaky_relu", "prelu", "sigmoid", "silu",    "tanh",        "gelu",    "gelu_tanh", "hardswish",
    "hardsigmoid", "elu", "softplus", "mish",    "exp",     "log",         "sqrt",    "rsqrt",    "reciprocal",
    "neg",     "abs",     "square", "power",   "round_bf16",
};
static_assert(sizeof(op_names) / sizeof(op_names[0]) == size_t(Op::count_), "one name for each operation");

enum class Operand : int32_t {
    none = 0,
    scalar,    // gamma
    channels,  // one fp32 vector of `channels` numbers for every position
    rows,      // another value's rows, row number = position, or map[position]
};

struct RowOp {
    Op op;
    Operand operand;
    float alpha, beta, gamma;
    const float* vector;   // Operand::channels
    Rows rows;             // Operand::rows
    const int32_t* map;    // Operand::rows: row of each position; null is the position itself
    int32_t broadcast;     // Operand::rows: 1 where the row holds one number that serves every channel
};

enum class Record : int32_t {
    none = 0,     // nobody reads the value: every computed position counts as announced
    exact,        // threshold 0: announced where any bit differs from the row before; no record is kept
    reference,    // a copy of the announced row, type `record.type`
    accumulated,  // one fp32 sum per position of |new - old| since it was announced
};

// How a value changed since it was last announced, for the gated convolutions that read it: r of every position, and
// the sum of |r| over its channels. Null: not asked for.
struct Change {
    void* rows;    // positions x channels, side by side, of the value's type
    float* norms;  // one per position
};

// What becomes of a fresh row before it is compared: added to a sum, or put in its place; then max(row + plus, floor).
struct Summing {
    int32_t given;  // 0: nothing
    float* sum;     // positions x channels, side by side; null: there is none
    int32_t adds;   // to the sum, which then goes on; else the row becomes the sum
    Rows plus;      // row number = position; null data: nothing is added
    float floor;    // -inf: none
};

// Compare, write back, announce.
struct Keep {
    Rows value;              // written (data is not const here)
    int32_t channels;
    Record form;
    Rows record;             // reference: rows (maybe coarser than the value); accumulated: data is float[positions]
    float threshold;
    const float* weights;    // per channel, of the squared difference; null is 1 / channels
    uint8_t* announced;      // mask over positions, set to 1 where announced, else left alone
    int32_t first;           // 1 on the first frame: everything is announced and recorded
    Change change;           // Record::exact, at least a vector of channels: of every position computed
    Summing summing;         // as `change`
};

// A gate's convolution: one output channel, whose only use is its sign.
struct Scoring {
    Window window;
    int32_t channels;
    int32_t absolute;      // 1: of the absolute numbers
    Type type;             // of the input rows; the arithmetic is fp32
    const float* weights;  // per tap, `padded` channels each, zeros behind the last
    float bias;
};

constexpr int32_t most_options = 8, most_taps = 64;

// A frame of a dynamic convolution: a sum of computed frames, every channel with weights of its own.
struct FrameSum {
    int32_t count;                           // at least one
    const float* rows[2 * most_options];     // of each, from its first position
    const float* weights[2 * most_options];  // per channel
};

// The channels of such a frame: a sum of options, each with its weight. An option leaves `kept` channels as they are
// and makes channel kept + g of channel g % kept, by a filter over height and width.
struct Spread {
    int32_t width, channels;
    int32_t kernel[2];
    int32_t options;
    float weight[most_options];
    int32_t kept[most_options];
    const float* filters[most_options];  // per tap, channels - kept numbers
};

// One axis of a resampled picture: output i is the sum over t < taps of weights[i * taps + t] * in[start[i] + t]. Only
// in[first[i]] to in[end[i] - 1] count, the others have weight 0. None of start, first and end ever falls.
struct Axis {
    int32_t taps;
    const int32_t* start;
    const int32_t* first;
    const int32_t* end;
    const float* weights;
};

enum class Order : int32_t { rgb = 0, bgr = 1, grey = 2 };

// From a picture of uint8 RGB to rows of one position per pixel: resampled along both axes, then
// (v * scale - mean) / deviation.
struct Resampling {
    const uint8_t* source;
    int64_t stride;          // bytes from one row of the source to the next, a multiple of 64; all may be read
    Axis rows, columns;
    int32_t same_columns;    // 1 where output column x is source column start[x] and follows that of x - 1
    Order order;
    int32_t clip;            // 1: to 0..255, before `scale`
    int32_t centre;          // 0: mean is 0 and deviation is 1 throughout
    float luma[3];           // Order::grey: the parts of R, G and B
    float scale;
    float mean[48], deviation[48];  // the channels' numbers again and again
    float* line;             // scratch: 3 floats per source or output column and 64 more, set to 0 once
    float* cells;            // scratch as `line`
    float* out;              // position (0, 0) of the rows
    int64_t out_stride;      // floats from one line of positions to the next
};

// One instruction set's routines.
struct Kernels {
    const char* name;
    int32_t lanes;  // fp32 numbers of a vector

    int64_t (*packed_bytes)(const Convolution&);
    // weight in torch's layout, fp32: (out, in / groups, kd, kh, kw), transposed (in, out / groups, kd, kh, kw);
    // bias may be null. `into` holds packed_bytes and is aligned to 64.
    void (*pack)(const Convolution&, const float* weight, const float* bias, void* into);
    int64_t (*convolve_scratch_bytes)(const Convolution&);
    int64_t (*convolve_chunk)(const Convolution&);  // how many positions are best computed per call

    // Producers: fresh fp32 rows of `count` positions (ascending) into out[count][ld], ld >= padded(channels).
    // Elements of a row beyond the channels may be overwritten with anything. `prefix` of convolve: compute only the
    // first so many output channels. `next`: rows of all output channels that the caller touches after that, at the same
    // positions; they are fetched meanwhile. Its data may be null: there are none.
    void (*convolve)(const Convolution&, Rows in, const int32_t* positions, int64_t count, int32_t prefix, float* out,
                     int64_t ld, void* scratch, Rows next);
    void (*pool)(const Pooling&, Rows in, const int32_t* positions, int64_t count, float* out, int64_t ld);
    void (*interpolate)(const Interpolation&, Rows in, const int32_t* positions, int64_t count, float* out, int64_t ld);
    void (*reduce)(const Reduction&, Rows in, const int32_t* positions, int64_t count, float* out, int64_t ld);
    void (*normalise)(const Normalisation&, Rows in, const int32_t* positions, int64_t count, float* out, int64_t ld);
    // rows copied and widened to fp32; map and broadcast as in RowOp
    void (*load)(Rows in, int32_t channels, const int32_t* map, int32_t broadcast, const int32_t* positions,
                 int64_t count, float* out, int64_t ld);

    void (*apply)(const RowOp* ops, int32_t op_count, int32_t channels, const int32_t* positions, int64_t count,
                  float* rows, int64_t ld);
    // Returns how many positions were announced.
    int64_t (*keep)(const Keep&, const int32_t* positions, int64_t count, const float* rows, int64_t ld);

    // Gated convolutions. `score`: out[i] of the i-th position; behind the last row of `in` 64 bytes may be read.
    void (*score)(const Scoring&, Rows in, const int32_t* positions, int64_t count, float* out);
    // r = now - last, at `count` positions; then last = now.
    void (*difference)(Rows now, Rows last, int32_t channels, const Change&, const int32_t* positions, int64_t count);
    // add: sum += rows, and rows become the sum; else sum = rows. The sum is fp32, its rows side by side.
    void (*accumulate)(float* sum, int32_t channels, int32_t add, const int32_t* positions, int64_t count, float* rows,
                       int64_t ld);

    // Dynamic convolutions. Rows of a frame are `stride` apart, a whole number of vectors that may all be written.
    void (*sum_frames)(const FrameSum&, int64_t stride, int32_t channels, int64_t positions, float* out);
    // out[i] of column first + i of a line. `lines`: that of each row of the filters, null where it lies outside the
    // frame. Elements of a row beyond the channels are left alone.
    void (*spread)(const Spread&, const float* const* lines, int64_t stride, int32_t first, int64_t count, float* out,
                   int64_t ld);
    // sum += rows; the sum has whole vectors.
    void (*add_rows)(const float* rows, int64_t ld, int64_t count, int32_t channels, float* sum);

    // Masks: one byte per position, 0 or 1.
    // out[p] |= any announced input under the window of p; `out` is (batch, out...), `in` (batch, in...).
    void (*dilate)(const Window&, int32_t transposed, const uint8_t* in, uint8_t* out);
    void (*mask_or)(const uint8_t* in, uint8_t* out, int64_t count);                             // out |= in
    void (*mask_or_map)(const uint8_t* in, const int32_t* map, uint8_t* out, int64_t count);     // out[p] |= in[map[p]], map < 0: nothing
    int64_t (*collect)(const uint8_t* mask, int64_t count, int32_t* positions);                  // indices set, ascending

    // Pictures. Copies `now` to `kept`, which has room up to a multiple of 64 and zeros behind `bytes`. Bit i of
    // `changed` says whether byte i differed; returns whether any did.
    int64_t (*compare_bytes)(const uint8_t* now, uint8_t* kept, int64_t bytes, uint64_t* changed);
    // Computes output columns first to end of one output row.
    void (*resample_row)(const Resampling&, int32_t row, int32_t first, int32_t end);
};

// Channels padded to what producers may write.
inline int64_t padded(int64_t channels) { return (channels + 63) / 64 * 64; }

}  // namespace saccade
