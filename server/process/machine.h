// Reads what this process may use: limits of the cgroup, v1 or v2, else of the machine.
#ifndef SALIENT_SERVER_PROCESS_MACHINE_H_
#define SALIENT_SERVER_PROCESS_MACHINE_H_

#include <cstdint>
#include <string>

namespace salient {

// Returns the processors, rounded up (two threads held back a quarter of the time do more than
// one), at least 1. `root` is where the file system begins: "" in production.
int AvailableProcessors(const std::string& root = "");

// Returns the bytes of memory.
int64_t AvailableMemoryBytes(const std::string& root = "");

// This says how many files and sockets this process may open.
struct DescriptorLimit {
  int64_t before = 0;
  int64_t now = 0;
};

// Raises the soft limit to the hard one.
DescriptorLimit RaiseDescriptorLimit();

// Returns the soft limit.
int64_t AvailableDescriptors();

}  // namespace salient

#endif  // SALIENT_SERVER_PROCESS_MACHINE_H_
