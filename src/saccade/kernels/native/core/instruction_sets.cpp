#include "instruction_sets.h"

#include <stdexcept>

#if defined(SACCADE_WITH_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace saccade {

namespace portable { extern const Kernels kernel_list; }
#if defined(SACCADE_WITH_AVX2)
namespace avx2 { extern const Kernels kernel_list; }
#endif
#if defined(SACCADE_WITH_AVX512)
namespace avx512 { extern const Kernels kernel_list; }
#endif
#if defined(SACCADE_WITH_AVX512BF16)
namespace avx512bf16 { extern const Kernels kernel_list; }
#endif
#if defined(SACCADE_WITH_AMX)
namespace amx { extern const Kernels kernel_list; }
#endif

namespace {

struct Set {
    const Kernels* kernels;
    bool here;
};

#if defined(SACCADE_WITH_AMX)
// Linux hands out the tile registers on request only, and refuses where the machine has none.
bool tiles_granted() {
    constexpr long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
#endif

std::vector<Set> find_sets() {
    std::vector<Set> sets = {{&portable::kernel_list, true}};
#if defined(SACCADE_WITH_AVX2)
    __builtin_cpu_init();
    const bool avx2_here =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    sets.push_back({&avx2::kernel_list, avx2_here});
#endif
#if defined(SACCADE_WITH_AVX512)
    const bool avx512_here = avx2_here && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    sets.push_back({&avx512::kernel_list, avx512_here});
#endif
#if defined(SACCADE_WITH_AVX512BF16)
    const bool bf16_here = avx512_here && __builtin_cpu_supports("avx512bf16");
    sets.push_back({&avx512bf16::kernel_list, bf16_here});
#endif
#if defined(SACCADE_WITH_AMX)
    sets.push_back({&amx::kernel_list, bf16_here && tiles_granted()});
#endif
    return sets;
}

const std::vector<Set>& all_sets() {
    static const std::vector<Set> sets = find_sets();
    return sets;
}

}  // namespace

std::vector<std::string> built_isas() {
    std::vector<std::string> names;
    for (const Set& set : all_sets()) names.push_back(set.kernels->name);
    return names;
}

std::vector<std::string> machine_isas() {
    std::vector<std::string> names;
    for (const Set& set : all_sets())
        if (set.here) names.push_back(set.kernels->name);
    return names;
}

const Kernels& find_kernels(const std::string& isa) {
    for (const Set& set : all_sets())
        if (set.here && set.kernels->name == isa) return *set.kernels;
    throw std::invalid_argument("no instruction set " + isa + " on this machine");
}

}  // namespace saccade
