// What the values of flags may be. Each check says the value and what was expected.
#ifndef SALIENT_CLIENT_FLAG_VALUES_H_
#define SALIENT_CLIENT_FLAG_VALUES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"

namespace salient::client {

// An integer from `least` to `most`.
CLI::Validator IntegerIn(int64_t least, int64_t most);
// An integer that is not negative.
CLI::Validator Count();
// A number from `least` to `most`.
CLI::Validator NumberIn(double least, double most);
// A number that is not negative.
CLI::Validator NotNegative();
// An integer without a sign, of 64 bits.
CLI::Validator Seed();
// One of `names`; a mistyped one is told the nearest.
CLI::Validator OneOf(std::vector<std::string> names);
// in_features that share a scale: N, -1 or channel, and, if `whole_tensor`, -2 or tensor. Names
// become numbers.
CLI::Validator GroupSize(bool whole_tensor);
// Bytes: a number, or one with a unit of 1024 (8G, 64GiB, 512MB), becomes a number.
CLI::Validator Bytes();
// Seconds: a number, or one with a unit (250ms, 30s, 5m, 2h, 1d), becomes a number.
CLI::Validator Seconds();
// As ServerAddress, which the value becomes.
CLI::Validator Address();

}  // namespace salient::client

#endif  // SALIENT_CLIENT_FLAG_VALUES_H_
