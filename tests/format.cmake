# Fails if a C++ file is not formatted as .clang-format says; prints the first faults.
#
#   cmake -DSOURCE_DIR=<repository> -P format.cmake
#
# Versions of clang-format differ in what they write, so only version 14 judges. Mend with
# `git ls-files '*.h' '*.cc' | xargs clang-format-14 -i`.
cmake_minimum_required(VERSION 3.25)

find_program(CLANG_FORMAT NAMES clang-format-14)
if(NOT CLANG_FORMAT)
  message(STATUS "SKIPPED: clang-format-14 is not installed")
  return()
endif()

set(files)
foreach(room core server client proto tests)
  file(GLOB_RECURSE found "${SOURCE_DIR}/${room}/*.h" "${SOURCE_DIR}/${room}/*.cc")
  list(APPEND files ${found})
endforeach()
if(NOT files)
  message(FATAL_ERROR "no C++ file under ${SOURCE_DIR}")
endif()
execute_process(COMMAND ${CLANG_FORMAT} --style=file --dry-run -Werror --ferror-limit=1 ${files}
                RESULT_VARIABLE code ERROR_VARIABLE text OUTPUT_VARIABLE text)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "not formatted:\n${text}")
endif()
list(LENGTH files count)
message(STATUS "format: ${count} files")
