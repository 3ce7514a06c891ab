// Which instruction sets were built, which this machine has, and their kernel lists.
#pragma once
#include <string>
#include <vector>

#include "../kernels.h"

namespace saccade {

std::vector<std::string> built_isas();    // from the plainest to the best
std::vector<std::string> machine_isas();  // those of them that this machine runs

// The kernel list of an instruction set of this machine; throws std::invalid_argument for any other name.
const Kernels& find_kernels(const std::string& isa);

}  // namespace saccade
