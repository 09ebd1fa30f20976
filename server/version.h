// The version of the server.
#ifndef SALIENT_SERVER_VERSION_H_
#define SALIENT_SERVER_VERSION_H_

namespace salient {

inline constexpr char kVersion[] = SALIENT_VERSION;  // of CMakeLists.txt

}  // namespace salient

#endif  // SALIENT_SERVER_VERSION_H_
