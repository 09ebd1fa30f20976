// Reads what the kernel says about this process.
#ifndef SALIENT_SERVER_OBSERVE_PROCESS_STATS_H_
#define SALIENT_SERVER_OBSERVE_PROCESS_STATS_H_

namespace salient {

struct ProcessStats {
  double cpu_seconds = 0;  // It is user and system time together.
  double resident_memory_bytes = 0;
  double virtual_memory_bytes = 0;
  double open_fds = 0;
  double max_fds = 0;
  double start_time_seconds = 0;  // It counts since the Unix epoch.
};

// Reads /proc/self; what cannot be read stays 0.
ProcessStats ReadProcessStats();

}  // namespace salient

#endif  // SALIENT_SERVER_OBSERVE_PROCESS_STATS_H_
