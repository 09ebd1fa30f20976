// Says and sets which signals a process ignores.
#ifndef SALIENT_CORE_FILE_SIGNALS_H_
#define SALIENT_CORE_FILE_SIGNALS_H_

namespace salient {

// Returns whether `signal` is ignored. nohup starts programs so that SIGHUP is; it is then to be
// left alone.
bool IsIgnored(int signal);

// Makes writing to a pipe that nobody reads, or to a file that may not grow, return an error
// instead of ending the process.
void IgnoreSignalsOfWrites();

}  // namespace salient

#endif  // SALIENT_CORE_FILE_SIGNALS_H_
