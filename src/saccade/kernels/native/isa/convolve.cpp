// Convolution at chosen positions: the register tile over packed weights, reading the input rows where they lie.
#include "amx.h"
#include "by_channels.h"
#include "depthwise.h"
#include "routines.h"
#include "sources.h"
#include "stretches.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

namespace {

template <class Arithmetic>
void run_blocks(const TileTable<Arithmetic>& table, int rows, Tile t, int64_t channels) {
    const int64_t at_once = blocks_at_once(rows);
    while (channels > 0) {
        const bool wide = at_once > 1 && channels > (at_once - 1) * block;
        (wide ? table.wide : channels > lanes ? table.narrow : table.half)[rows](t);
        const int64_t done = wide ? at_once : 1;
        t.weights += done * t.block_stride;
        if (t.bias) t.bias += done * block;
        t.out += done * block;
        channels -= done * block;
    }
}

void run(Type unit, int rows, const Tile& t, int64_t channels) {
#if defined(__AVX512BF16__)
    static constexpr TileTable<Bf16Pairs> pairs;
    if (unit == Type::bf16) return run_blocks(pairs, rows, t, channels);
#else
    (void)unit;
#endif
    static constexpr TileTable<Fp32> fp32;
    run_blocks(fp32, rows, t, channels);
}

// All folds of the first `channels` channels for every tile. A fold's weights stay in the first-level cache while the
// tiles pass.
void sum_folds(const Packing& packing, const Sources& sources, const int* rows, int64_t tiles, const float* weights,
               const float* bias, int64_t channels, float* out, int64_t ld, Ahead& ahead) {
    int64_t first = 0;
    do {  // without any runs the bias is all
        const int64_t left = packing.runs - first;
        const int64_t now = left < packing.runs_at_once ? left : packing.runs_at_once;
        Tile t;
        t.weights = weights + first * packing.run_units * block;
        t.block_stride = packing.block_stride;
        t.bias = first == 0 ? bias : nullptr;
        t.ld = ld;
        t.out = out;
        t.ahead = &ahead;
        for (int64_t i = 0; i < tiles; ++i) {
            const int64_t joined = sources.joined(i);
            t.runs = now / joined;
            t.runs_per_fold = packing.runs_per_fold / joined;
            t.bytes = packing.run_units * 4 * joined;
            t.pointers = sources.tile_pointers(i) + first / joined * rows[i];
            run(packing.unit, rows[i], t, channels);
            t.out += rows[i] * ld;
        }
        first += packing.runs_at_once;
    } while (first < packing.runs);
}

// One phase: `positions` are all of it, at most `tiles_at_once` tiles of them.
void convolve_phase(const Convolution& c, const Packing& packing, const void* packed, Rows in, const int32_t* positions,
                    int64_t count, int32_t prefix, float* out, int64_t ld, void* scratch, Rows next) {
    Sources sources(c, packing, in, scratch);
    int rows[max_tiles];
    const int64_t size = size_of(next.type), runs = packing.groups * packing.blocks * packing.runs / packing.runs_joined;
    Ahead ahead = {static_cast<const char*>(next.data), next.stride * size, c.out_channels * size, positions,
                   next.data ? count : 0, tile_rows / (runs > 0 ? runs : 1) + 1};
    for (int64_t g = 0; g < packing.groups && g * packing.out_per_group < prefix; ++g) {
        const int64_t channel = g * packing.out_per_group;
        const int64_t wanted = prefix - channel < packing.out_per_group ? prefix - channel : packing.out_per_group;
        const int64_t blocks = (wanted + block - 1) / block;
        const int64_t tiles = sources.fill(g, positions, count, rows);
        const float* weights = packing.weights(packed, g);
        const float* bias = packing.bias(packed, g);
        float* to = out + channel;
#if defined(__AMX_BF16__)
        if (packing.tiles) {
            MatrixTiles(c, packing, sources).run(rows, tiles, weights, bias, blocks, to, ld);
            continue;
        }
#endif
        if (packing.groups == 1) {
            // Four blocks of few positions share what they read of the input.
            for (int64_t b = 0; b < blocks; b += 4) {
                const int64_t left = wanted - b * block;
                sum_folds(packing, sources, rows, tiles, weights + b * packing.block_stride, bias + b * block,
                          left < 4 * block ? left : 4 * block, to + b * block, ld, ahead);
            }
            continue;
        }
        // A group's last block may reach beyond it: into groups computed later, or else it is summed apart and copied.
        if (channel + round_up(wanted, wanted > lanes ? block : lanes) <= padded(prefix)) {
            sum_folds(packing, sources, rows, tiles, weights, bias, wanted, to, ld, ahead);
            continue;
        }
        for (int64_t b = 0; b < blocks; ++b) {
            alignas(64) float apart[max_tiles * tile_rows * block];
            const int64_t width = wanted - b * block < block ? wanted - b * block : block;
            sum_folds(packing, sources, rows, tiles, weights + b * packing.block_stride, bias + b * block, width, apart,
                      block, ahead);
            for (int64_t p = 0; p < count; ++p)
                memcpy(to + p * ld + b * block, apart + p * block, size_t(width) * sizeof(float));
        }
    }
}

// The phase of each position. Along a row phases follow one another.
void find_phases(const Convolution& c, const int32_t* positions, int64_t count, int32_t* phases) {
    const int32_t stride = c.window.stride[2];
    for (Stretches s(c.window.out, positions, count); s.next();) {
        const int32_t first = phase_at(c, positions[s->start]);
        int32_t x = first % stride;
        const int32_t row = first - x;
        for (int64_t i = 0; i < s->count; ++i) {
            phases[s->start + i] = row + x;
            if (++x == stride) x = 0;
        }
    }
}

int64_t sorted_bytes(const Convolution& c) {
    return phases_of(c) == 1 ? 0 : convolve_chunk(c) * padded(c.out_channels) * 4;
}

// At most `convolve_chunk` positions, phase by phase; their rows come out together and are put where they belong.
void convolve_sorted(const Convolution& c, Rows in, const int32_t* positions, int64_t count, int32_t prefix, float* out,
                     int64_t ld, void* scratch) {
    int32_t phases[max_tiles * matrix_rows], chosen[max_tiles * matrix_rows], index[max_tiles * matrix_rows];
    find_phases(c, positions, count, phases);
    float* rows = static_cast<float*>(scratch);
    char* beyond = static_cast<char*>(scratch) + sorted_bytes(c);
    const int64_t width = padded(c.out_channels);
    const char* packed = static_cast<const char*>(c.packed);
    for (int32_t phase = 0; phase < phases_of(c); ++phase) {
        const Packing packing(c, phase);
        int64_t n = 0;
        for (int64_t i = 0; i < count; ++i)
            if (phases[i] == phase) {
                chosen[n] = positions[i];
                index[n++] = int32_t(i);
            }
        if (n > 0) convolve_phase(c, packing, packed, in, chosen, n, prefix, rows, width, beyond, Rows{});
        for (int64_t i = 0; i < n; ++i) {
            const float* row = rows + i * width;
            float* to = out + index[i] * ld;
            for (int64_t o = 0; o < prefix; o += lanes) store(to + o, load(row + o));
        }
        packed += packing.bytes();
    }
}

}  // namespace

int64_t packed_bytes(const Convolution& c) {
    if (is_depthwise(c)) return depthwise_packed_bytes(c);
    if (Grouping(c).by_channels) return by_channels_packed_bytes(c);
    int64_t bytes = 0;
    for (int32_t phase = 0; phase < phases_of(c); ++phase) bytes += Packing(c, phase).bytes();
    return bytes;
}

void pack(const Convolution& c, const float* weight, const float* bias, void* into) {
    if (is_depthwise(c)) return depthwise_pack(c, weight, bias, into);
    if (Grouping(c).by_channels) return by_channels_pack(c, weight, bias, into);
    char* at = static_cast<char*>(into);
    for (int32_t phase = 0; phase < phases_of(c); ++phase) {
        const Packing packing(c, phase);
        packing.fill(weight, bias, reinterpret_cast<float*>(at));
        at += packing.bytes();
    }
}

int64_t convolve_chunk(const Convolution& c) {
    if (is_depthwise(c)) return 512;
    if (Grouping(c).by_channels) return by_channels_chunk;
    const Packing packing(c);
    return Sources::tiles_at_once(c, packing) * rows_per_tile(packing);
}

int64_t convolve_scratch_bytes(const Convolution& c) {
    if (is_depthwise(c)) return 0;
    if (Grouping(c).by_channels) return by_channels_scratch_bytes(c);
    int64_t most = 0;
    for (int32_t phase = 0; phase < phases_of(c); ++phase) {
        const Packing packing(c, phase);
        int64_t bytes = Sources::scratch_bytes(c, packing);
#if defined(__AMX_BF16__)
        bytes += MatrixTiles::scratch_bytes(c, packing);
#endif
        if (bytes > most) most = bytes;
    }
    return sorted_bytes(c) + most;
}

void convolve(const Convolution& c, Rows in, const int32_t* positions, int64_t count, int32_t prefix, float* out,
              int64_t ld, void* scratch, Rows next) {
    if (is_depthwise(c)) return depthwise_convolve(c, in, positions, count, prefix, out, ld);
    const bool sorted = phases_of(c) > 1, by_channels = Grouping(c).by_channels;
    const int64_t chunk = convolve_chunk(c);
    for (int64_t at = 0; at < count; at += chunk, positions += chunk, out += chunk * ld) {
        const int64_t n = count - at < chunk ? count - at : chunk;
        if (by_channels)
            by_channels_convolve(c, in, positions, n, prefix, out, ld, scratch);
        else if (sorted)
            convolve_sorted(c, in, positions, n, prefix, out, ld, scratch);
        else
            convolve_phase(c, Packing(c), c.packed, in, positions, n, prefix, out, ld, scratch, next);
    }
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
