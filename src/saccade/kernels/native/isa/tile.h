// The register tile: MR positions x NV vectors of output channels, held in registers over one stretch of the sum.
//
// A position's inputs are runs of memory, one pointer each: nothing is copied, so positions may lie anywhere. A unit is
// what one broadcast fetches: one fp32, or a pair of bf16.
#pragma once
#include "../kernels.h"
#include "../simd.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

#if defined(__AVX512F__)
constexpr int tile_rows = 12;
#else
constexpr int tile_rows = 6;
#endif
constexpr int block_vectors = 2;
constexpr int block = block_vectors * lanes;  // output channels of one packed block

// Rows that are wanted soon, fetched into the second-level cache a few at a time, one time for every run of a tile: the
// sums go on while memory answers.
struct Ahead {
    const char* rows;
    int64_t stride, bytes;  // from row to row, of a row
    const int32_t* positions;
    int64_t left, at_once;  // rows

    __attribute__((always_inline)) void fetch() {
        for (int64_t i = left < at_once ? left : at_once; i > 0; --i, --left) {
            const char* row = rows + *positions++ * stride;
            for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
        }
    }
};

struct Tile {
    const char* const* pointers;  // [runs][MR]
    int64_t runs;
    int64_t runs_per_fold;  // the sum over so many is added to the total
    int64_t bytes;          // of every run
    const float* weights;   // of the first block: [units][block]; a pair of bf16 takes one 32-bit lane
    int64_t block_stride;   // floats from one block to the next
    const float* bias;      // of the first block; null goes on from what `out` holds
    float* out;
    int64_t ld;
    Ahead* ahead;
};

SACCADE_INLINE Vec broadcast(const char* p) {
#if defined(__AVX512F__)
    return (Vec)_mm512_set1_ps(*reinterpret_cast<const float*>(p));
#elif defined(__AVX2__)
    return (Vec)_mm256_broadcast_ss(reinterpret_cast<const float*>(p));
#else
    return splat(*reinterpret_cast<const float*>(p));
#endif
}

struct Fp32 {
    SACCADE_INLINE Vec step(Vec a, Vec b, Vec sum) { return fma(a, b, sum); }
};

#if defined(__AVX512BF16__)
struct Bf16Pairs {
    SACCADE_INLINE Vec step(Vec a, Vec b, Vec sum) {
        return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
    }
};
#endif

// NV: how many vectors of outputs, half a block, one block or several.
template <class Arithmetic, int MR, int NV>
static void run_tile(const Tile& t) {
    alignas(64) float totals[MR * NV * lanes];
    const float* w = t.weights;
    const char* const* pointers = t.pointers;
    const int64_t bytes = t.bytes;
    const float* before = t.bias ? t.bias : t.out;
    int64_t before_ld = t.bias ? 0 : t.ld;
    int64_t left = t.runs;
    do {
        Vec sum[MR][NV];
#pragma GCC unroll 16
        for (int p = 0; p < MR; ++p)
#pragma GCC unroll 16
            for (int v = 0; v < NV; ++v) sum[p][v] = Vec{};
        int64_t runs = left < t.runs_per_fold ? left : t.runs_per_fold;
        left -= runs;
        for (; runs > 0; --runs, pointers += MR) {
            t.ahead->fetch();
            const char* a[MR];
#pragma GCC unroll 16
            for (int p = 0; p < MR; ++p) a[p] = opaque(pointers[p] + bytes);
            for (int64_t k = -bytes; k < 0; k += 4) {
                Vec b[NV];
#pragma GCC unroll 16
                for (int v = 0; v < NV; ++v)
                    b[v] = load(w + (v / block_vectors) * t.block_stride + (v % block_vectors) * lanes);
                __builtin_prefetch(w + 64 * block);
                w += block;
#pragma GCC unroll 16
                for (int p = 0; p < MR; ++p) {
                    const Vec x = broadcast(a[p] + k);
#pragma GCC unroll 16
                    for (int v = 0; v < NV; ++v) sum[p][v] = Arithmetic::step(x, b[v], sum[p][v]);
                }
            }
        }
        float* to = left > 0 ? totals : t.out;
        const int64_t to_ld = left > 0 ? NV * lanes : t.ld;
#pragma GCC unroll 16
        for (int p = 0; p < MR; ++p)
#pragma GCC unroll 16
            for (int v = 0; v < NV; ++v)
                store(to + p * to_ld + v * lanes, sum[p][v] + load(before + p * before_ld + v * lanes));
        before = totals;
        before_ld = NV * lanes;
    } while (left > 0);
}

// Few positions leave registers free, and take several blocks of output channels at once.
constexpr int blocks_at_once(int rows) { return rows * 4 <= tile_rows ? 4 : rows * 2 <= tile_rows ? 2 : 1; }

using TileFunction = void (*)(const Tile&);

template <class Arithmetic>
struct TileTable {
    TileFunction wide[13] = {
        nullptr,
        run_tile<Arithmetic, 1, block_vectors * blocks_at_once(1)>,
        run_tile<Arithmetic, 2, block_vectors * blocks_at_once(2)>,
        run_tile<Arithmetic, 3, block_vectors * blocks_at_once(3)>,
        run_tile<Arithmetic, 4, block_vectors * blocks_at_once(4)>,
        run_tile<Arithmetic, 5, block_vectors * blocks_at_once(5)>,
        run_tile<Arithmetic, 6, block_vectors * blocks_at_once(6)>,
    };
    TileFunction narrow[13] = {
        nullptr,
        run_tile<Arithmetic, 1, 2>, run_tile<Arithmetic, 2, 2>, run_tile<Arithmetic, 3, 2>,
        run_tile<Arithmetic, 4, 2>, run_tile<Arithmetic, 5, 2>, run_tile<Arithmetic, 6, 2>,
#if defined(__AVX512F__)
        run_tile<Arithmetic, 7, 2>, run_tile<Arithmetic, 8, 2>, run_tile<Arithmetic, 9, 2>,
        run_tile<Arithmetic, 10, 2>, run_tile<Arithmetic, 11, 2>, run_tile<Arithmetic, 12, 2>,
#endif
    };
    TileFunction half[13] = {  // the first vector of a block
        nullptr,
        run_tile<Arithmetic, 1, 1>, run_tile<Arithmetic, 2, 1>, run_tile<Arithmetic, 3, 1>,
        run_tile<Arithmetic, 4, 1>, run_tile<Arithmetic, 5, 1>, run_tile<Arithmetic, 6, 1>,
#if defined(__AVX512F__)
        run_tile<Arithmetic, 7, 1>, run_tile<Arithmetic, 8, 1>, run_tile<Arithmetic, 9, 1>,
        run_tile<Arithmetic, 10, 1>, run_tile<Arithmetic, 11, 1>, run_tile<Arithmetic, 12, 1>,
#endif
    };
};

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
