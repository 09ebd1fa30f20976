// Names the version of the server.
#ifndef SALIENT_SERVER_VERSION_H_
#define SALIENT_SERVER_VERSION_H_

namespace salient {

inline constexpr char kVersion[] = SALIENT_VERSION;  // CMakeLists.txt sets it.

}  // namespace salient

#endif  // SALIENT_SERVER_VERSION_H_
