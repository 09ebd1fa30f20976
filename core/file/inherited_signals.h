// Says what a process was started with: signals that are ignored.
#ifndef SALIENT_CORE_FILE_INHERITED_SIGNALS_H_
#define SALIENT_CORE_FILE_INHERITED_SIGNALS_H_

namespace salient {

// Returns whether `signal` is ignored. nohup starts programs so that SIGHUP is; it is then to be
// left alone.
bool IsIgnored(int signal);

}  // namespace salient

#endif  // SALIENT_CORE_FILE_INHERITED_SIGNALS_H_
