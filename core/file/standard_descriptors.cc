#include "core/file/standard_descriptors.h"

#include <fcntl.h>
#include <unistd.h>

namespace salient {

void HoldStandardDescriptors() {
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) >= 0) continue;
    // The lowest number is taken, which is this one, in the direction that nobody uses.
    (void)open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

}  // namespace salient
