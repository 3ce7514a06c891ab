// bf16 convolution by matrix tiles: 16 positions x 32 inputs times 32 inputs x 16 outputs in one instruction.
//
// A panel is 32 positions. Positions that follow one another are loaded where they lie; others are copied, 64 bytes of
// each position at a time, so that a tile's rows are evenly spaced. The packed weights are those of the register tile.
#pragma once
#include "sources.h"

#if defined(__AMX_BF16__)

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

constexpr int64_t tile_bytes = 64;  // of one row of a tile: 16 units
constexpr int64_t copied_panel_bytes_per_chunk = matrix_rows * tile_bytes;

class MatrixTiles {
public:
    SACCADE_INLINE int64_t chunks_of(const Packing& p) { return p.units / 16; }
    SACCADE_INLINE int64_t scratch_bytes(const Convolution& c, const Packing& p) {
        if (!p.tiles) return 0;
        const int64_t panels = Sources::tiles_at_once(c, p);
        return 64 + panels * chunks_of(p) * (copied_panel_bytes_per_chunk + int64_t(sizeof(Chunk)));
    }

    MatrixTiles(const Convolution& conv, const Packing& packing, Sources& from)
        : c(conv), pk(packing), sources(from), chunks(chunks_of(packing)) {
        char* at = from.free_scratch();
        at += (64 - reinterpret_cast<uintptr_t>(at) % 64) % 64;
        panels = at;
        table = reinterpret_cast<Chunk*>(at + Sources::tiles_at_once(c, pk) * chunks * copied_panel_bytes_per_chunk);
        Config config{};
        config.palette = 1;
        for (int i = 0; i < 8; ++i) {
            config.row_bytes[i] = 64;
            config.rows[i] = 16;
        }
        asm volatile("" ::"r"(&config) : "memory");  // GCC believes that only 8 of the 64 bytes are read
        _tile_loadconfig(&config);
    }
    ~MatrixTiles() { _tile_release(); }

    // Sums `tiles` panels of `rows` positions each for the first `blocks` blocks of outputs.
    void run(const int* rows, int64_t tiles, const float* weights, const float* bias, int64_t blocks, float* out,
             int64_t ld) {
        for (int64_t i = 0; i < tiles; ++i) prepare(i, rows[i]);
        for (int64_t b = 0; b < blocks; ++b) {
            float* to = out + b * block;
            for (int64_t i = 0; i < tiles; ++i) {
                const Chunk* chunk = table + i * chunks;
                const float* w = weights + b * pk.block_stride;
                const float* shift = bias + b * block;
                if (rows[i] == matrix_rows) {
                    sum_panel<2>(chunk, w, shift, to, ld);
                } else {
                    alignas(64) float staged[matrix_rows * block];
                    if (rows[i] > 16)
                        sum_panel<2>(chunk, w, shift, staged, block);
                    else
                        sum_panel<1>(chunk, w, shift, staged, block);
                    for (int p = 0; p < rows[i]; ++p) memcpy(to + p * ld, staged + p * block, block * sizeof(float));
                }
                to += rows[i] * ld;
            }
        }
    }

private:
    struct Config {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    };
    struct Chunk {
        const char* first;  // position 0
        int64_t step;       // bytes between positions
    };

    void prepare(int64_t tile, int64_t n) {
        const char** pointers = sources.tile_pointers(tile);
        char* panel = panels + tile * chunks * copied_panel_bytes_per_chunk;
        Chunk* chunk = table + tile * chunks;
        const int64_t per_run = pk.run_units / 16;
        for (int64_t run = 0; run < pk.runs; ++run) {
            const char** of_run = pointers + run * n;
            const int64_t step = n == matrix_rows ? even_step(of_run) : 0;
            for (int64_t k = 0; k < per_run; ++k, ++chunk, panel += copied_panel_bytes_per_chunk) {
                if (step) {
                    *chunk = {of_run[0] + k * tile_bytes, step};
                    continue;
                }
                for (int64_t p = 0; p < n; ++p)
                    _mm512_store_si512(panel + p * tile_bytes, _mm512_loadu_si512(of_run[p] + k * tile_bytes));
                *chunk = {panel, tile_bytes};
            }
        }
    }

    // The distance between positions where all are equally far apart, else 0.
    SACCADE_INLINE int64_t even_step(const char* const* pointers) {
        const int64_t step = pointers[1] - pointers[0];
        for (int64_t p = 2; p < matrix_rows; ++p)
            if (pointers[p] - pointers[p - 1] != step) return 0;
        return step;
    }

    template <int halves>
    void sum_panel(const Chunk* chunk, const float* weights, const float* bias, float* out, int64_t ld) const {
        _tile_loadd(0, bias, 0);  // a step of 0 gives every position the same row
        _tile_loadd(1, bias + 16, 0);
        if (halves == 2) {
            _tile_loadd(2, bias, 0);
            _tile_loadd(3, bias + 16, 0);
        }
        for (int64_t k = 0; k < chunks; ++k, weights += 16 * block) {
            _tile_loadd(6, weights, block * 4);
            _tile_loadd(7, weights + 16, block * 4);
            _tile_loadd(4, chunk[k].first, chunk[k].step);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            if (halves == 2) {
                _tile_loadd(5, chunk[k].first + 16 * chunk[k].step, chunk[k].step);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
        _tile_stored(0, out, ld * 4);
        _tile_stored(1, out + 16, ld * 4);
        if (halves == 2) {
            _tile_stored(2, out + 16 * ld, ld * 4);
            _tile_stored(3, out + 16 * ld + 16, ld * 4);
        }
    }

    const Convolution& c;
    const Packing& pk;
    Sources& sources;
    int64_t chunks;
    char* panels;
    Chunk* table;
};

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade

#endif
