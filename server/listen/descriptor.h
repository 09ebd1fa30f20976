// Closes a file descriptor with its owner.
#ifndef SALIENT_SERVER_LISTEN_DESCRIPTOR_H_
#define SALIENT_SERVER_LISTEN_DESCRIPTOR_H_

#include <unistd.h>

#include <utility>

namespace salient {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(other.Release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() { Close(); }

  bool is_open() const { return number_ >= 0; }
  int number() const { return number_; }  // -1 stands for none.
  int Release() { return std::exchange(number_, -1); }
  void Close() {
    if (const int number = Release(); number >= 0) close(number);
  }

 private:
  int number_ = -1;
};

}  // namespace salient

#endif  // SALIENT_SERVER_LISTEN_DESCRIPTOR_H_
