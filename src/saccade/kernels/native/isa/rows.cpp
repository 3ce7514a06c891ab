// Elementwise work on the scratch rows: rows of a value as they are, and the calls fused onto a step.
#include "channels.h"
#include "routines.h"
#include "vector_math.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

namespace {

// Rows of the scratch matrix. What lies beyond the channels is computed along where that is cheaper, on zeros: what
// was left there may be numbers that are slow to compute with.
struct Block {
    const int32_t* positions;
    int64_t count;
    float* rows;
    int64_t ld;
    int64_t channels;

    int64_t rest() const { return channels % lanes; }
    int64_t whole() const { return channels - channels % lanes; }  // channels in full vectors
};

template <class Function>
SACCADE_INLINE void each(const Block& b, Function f) {
    if (b.channels == b.ld) {  // nothing lies between the rows
        const int64_t n = b.count * b.ld;
        for (int64_t i = 0; i < n; i += lanes) store(b.rows + i, f(load(b.rows + i)));
        return;
    }
    const int64_t whole = b.whole(), rest = b.rest();
    for (int64_t i = 0; i < b.count; ++i) {
        float* row = b.rows + i * b.ld;
        for (int64_t c = 0; c < whole; c += lanes) store(row + c, f(load(row + c)));
        if (rest) store(row + whole, f(first_lanes(load(row + whole), rest)));
    }
}

template <class Function>
SACCADE_INLINE void each_with_channels(const Block& b, const float* vector, Function f) {
    const int64_t whole = b.whole(), rest = b.rest();
    const Vec last = rest ? load_first(vector + whole, rest) : Vec{};
    for (int64_t i = 0; i < b.count; ++i) {
        float* row = b.rows + i * b.ld;
        for (int64_t c = 0; c < whole; c += lanes) store(row + c, f(load(row + c), load(vector + c)));
        if (rest) store(row + whole, f(first_lanes(load(row + whole), rest), last));
    }
}

template <class T, class Function>
SACCADE_INLINE void each_with_rows(const Block& b, const RowOp& op, Function f) {
    const T* data = static_cast<const T*>(op.rows.data);
    const int64_t whole = b.whole(), rest = b.rest();
    for (int64_t i = 0; i < b.count; ++i) {
        const int64_t from = op.map ? op.map[b.positions[i]] : b.positions[i];
        const T* other = data + from * op.rows.stride;
        float* row = b.rows + i * b.ld;
        for (int64_t c = 0; c < whole; c += lanes) store(row + c, f(load(row + c), load_as(other + c)));
        if (rest) store(row + whole, f(first_lanes(load(row + whole), rest), load_first(other + whole, rest)));
    }
}

SACCADE_INLINE float number_at(const Rows& rows, int64_t row) {
    const int64_t at = row * rows.stride;
    return rows.type == Type::f32 ? static_cast<const float*>(rows.data)[at]
                                  : widen(static_cast<const uint16_t*>(rows.data)[at]);
}

template <class Function>
SACCADE_INLINE void each_with_numbers(const Block& b, const RowOp& op, Function f) {
    const int64_t whole = b.whole(), rest = b.rest();
    for (int64_t i = 0; i < b.count; ++i) {
        const Vec o = splat(number_at(op.rows, op.map ? op.map[b.positions[i]] : b.positions[i]));
        float* row = b.rows + i * b.ld;
        for (int64_t c = 0; c < whole; c += lanes) store(row + c, f(load(row + c), o));
        if (rest) store(row + whole, f(first_lanes(load(row + whole), rest), o));
    }
}

// f(row, operand), whatever the operand is.
template <class Function>
void with_operand(const Block& b, const RowOp& op, Function f) {
    if (op.operand == Operand::channels)
        each_with_channels(b, op.vector, f);
    else if (op.operand != Operand::rows)
        each(b, [f, o = splat(op.gamma)](Vec r) { return f(r, o); });
    else if (op.broadcast)
        each_with_numbers(b, op, f);
    else if (op.rows.type == Type::f32)
        each_with_rows<float>(b, op, f);
    else
        each_with_rows<uint16_t>(b, op, f);
}

// r + alpha * o. Most have alpha 1 or -1, where one addition is exact.
void apply_add(const Block& b, const RowOp& op, float alpha) {
    if (alpha == 1.0f)
        with_operand(b, op, [](Vec r, Vec o) { return r + o; });
    else if (alpha == -1.0f)
        with_operand(b, op, [](Vec r, Vec o) { return r - o; });
    else
        with_operand(b, op, [a = splat(alpha)](Vec r, Vec o) { return exact_fma(a, o, r); });
}

void apply_rsub(const Block& b, const RowOp& op) {
    if (op.alpha == 1.0f)
        with_operand(b, op, [](Vec r, Vec o) { return o - r; });
    else
        with_operand(b, op, [a = splat(-op.alpha)](Vec r, Vec o) { return exact_fma(a, r, o); });
}

void apply_clamp(const Block& b, float low, float high) {
    if (low != low || high != high)  // as in torch a bound that is NaN gives NaN
        return each(b, [nan = splat(__builtin_nanf(""))](Vec) { return nan; });
    each(b, [low = splat(low), high = splat(high)](Vec r) { return smaller(high, larger(low, r)); });
}

void apply_softplus(const Block& b, float beta, float threshold) {
    each(b, [beta = splat(beta), threshold = splat(threshold)](Vec r) {
        const Vec scaled = r * beta;
        return select(less(threshold, scaled), r, log_of_one_and_exponential(scaled) / beta);
    });
}

void apply_elu(const Block& b, float alpha, float scale, float input_scale) {
    each(b, [below = splat(alpha * scale), scale = splat(scale), input_scale = splat(input_scale)](Vec r) {
        return select(less(Vec{}, r), r * scale, exponential_less_one(r * input_scale) * below);
    });
}

// The exponents that torch has a shorter form for have the same one here.
void apply_power(const Block& b, float exponent) {
    if (exponent == 0.0f)
        each(b, [](Vec) { return splat(1.0f); });
    else if (exponent == 1.0f)
        return;
    else if (exponent == 2.0f)
        each(b, [](Vec r) { return r * r; });
    else if (exponent == 3.0f)
        each(b, [](Vec r) { return r * r * r; });
    else if (exponent == 0.5f)
        each(b, [](Vec r) { return square_root(r); });
    else if (exponent == -0.5f)
        each(b, [](Vec r) { return 1.0f / square_root(r); });
    else if (exponent == -1.0f)
        each(b, [](Vec r) { return 1.0f / r; });
    else if (exponent == -2.0f)
        each(b, [](Vec r) { return 1.0f / (r * r); });
    else
        each(b, [exponent](Vec r) { return power(r, exponent); });
}

SACCADE_INLINE Vec six_clamped(Vec r) { return smaller(splat(6.0f), larger(Vec{}, r + 3.0f)); }

void run(const Block& b, const RowOp& op) {
    constexpr float sixth = 1.0f / 6.0f;
    switch (op.op) {
        case Op::add: return apply_add(b, op, op.alpha);
        case Op::sub: return apply_add(b, op, -op.alpha);
        case Op::rsub: return apply_rsub(b, op);
        case Op::mul: return with_operand(b, op, [](Vec r, Vec o) { return r * o; });
        case Op::div: return with_operand(b, op, [](Vec r, Vec o) { return r / o; });
        case Op::rdiv: return with_operand(b, op, [](Vec r, Vec o) { return o / r; });
        case Op::maximum: return with_operand(b, op, [](Vec r, Vec o) { return maximum(r, o); });
        case Op::minimum: return with_operand(b, op, [](Vec r, Vec o) { return minimum(r, o); });
        case Op::relu: return each(b, [](Vec r) { return larger(Vec{}, r); });
        case Op::clamp: return apply_clamp(b, op.alpha, op.beta);
        case Op::leaky_relu:
            return each(b, [a = splat(op.alpha)](Vec r) { return select(less(Vec{}, r), r, a * r); });
        case Op::prelu:
            return with_operand(b, op, [](Vec r, Vec o) { return select(less(Vec{}, r), r, o * r); });
        case Op::sigmoid: return each(b, [](Vec r) { return sigmoid(r); });
        case Op::silu: return each(b, [](Vec r) { return r * sigmoid(r); });
        case Op::tanh: return each(b, [](Vec r) { return hyperbolic_tangent(r); });
        case Op::gelu: return each(b, [](Vec r) { return gaussian_unit(r); });
        case Op::gelu_tanh: return each(b, [](Vec r) { return gaussian_unit_tanh(r); });
        case Op::hardswish: return each(b, [](Vec r) { return r * six_clamped(r) * sixth; });
        case Op::hardsigmoid: return each(b, [](Vec r) { return six_clamped(r) * sixth; });
        case Op::elu: return apply_elu(b, op.alpha, op.beta, op.gamma);
        case Op::softplus: return apply_softplus(b, op.alpha, op.beta);
        case Op::mish: return each(b, [](Vec r) { return mish_unit(r); });
        case Op::exp: return each(b, [](Vec r) { return exponential(r); });
        case Op::log: return each(b, [](Vec r) { return logarithm(r); });
        case Op::sqrt: return each(b, [](Vec r) { return square_root(r); });
        case Op::rsqrt: return each(b, [](Vec r) { return 1.0f / square_root(r); });
        case Op::reciprocal: return each(b, [](Vec r) { return 1.0f / r; });
        case Op::neg: return each(b, [](Vec r) { return negative(r); });
        case Op::abs: return each(b, [](Vec r) { return absolute(r); });
        case Op::square: return each(b, [](Vec r) { return r * r; });
        case Op::power: return apply_power(b, op.alpha);
        case Op::round_bf16: return each(b, [](Vec r) { return round_to_bf16(r); });
        case Op::count_: return;
    }
}

template <class T>
void load_rows_as(const Block& b, const RowOp& from) {
    each_with_rows<T>(b, from, [](Vec, Vec o) { return o; });
}

}  // namespace

void load_rows(Rows in, int32_t channels, const int32_t* map, int32_t broadcast, const int32_t* positions,
               int64_t count, float* out, int64_t ld) {
    const Block block = {positions, count, out, ld, channels};
    RowOp from = {};
    from.rows = in;
    from.map = map;
    if (broadcast)
        each_with_numbers(block, from, [](Vec, Vec o) { return o; });
    else if (in.type == Type::f32)
        load_rows_as<float>(block, from);
    else
        load_rows_as<uint16_t>(block, from);
}

void apply(const RowOp* ops, int32_t op_count, int32_t channels, const int32_t* positions, int64_t count, float* rows,
           int64_t ld) {
    // A few rows at a time pass through all operations: they stay in the nearest cache, which holds 32 KiB or more.
    constexpr int64_t numbers = 4096;
    const int64_t most = op_count == 1 ? count : ld < numbers ? numbers / ld : 1;
    for (int64_t at = 0; at < count; at += most) {
        const Block block = {positions + at, count - at < most ? count - at : most, rows + at * ld, ld, channels};
        for (int32_t i = 0; i < op_count; ++i) run(block, ops[i]);
    }
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
