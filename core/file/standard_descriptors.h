// What a process begins with: descriptors 0, 1 and 2.
#ifndef SALIENT_CORE_FILE_STANDARD_DESCRIPTORS_H_
#define SALIENT_CORE_FILE_STANDARD_DESCRIPTORS_H_

namespace salient {

// Opens those of standard input, output and error that the process was started without, so that no
// file or connection gets their numbers and takes what is said to people. Using them is an error
// (EBADF), as it was. Call it first of all: what a library opened while it was loaded stays.
void HoldStandardDescriptors();

}  // namespace salient

#endif  // SALIENT_CORE_FILE_STANDARD_DESCRIPTORS_H_
