# Fails if proto/api.txtpb, the frozen text of the compiled contract, is not what the .proto files
# say: every change of the API is a visible change of that file. To take a change in:
#
#   cmake -DSOURCE_DIR=. -DREFRESH=ON -P tests/proto/api_descriptor.cmake
cmake_minimum_required(VERSION 3.25)

if(NOT SOURCE_DIR)
  message(FATAL_ERROR "usage: cmake -DSOURCE_DIR=<repository> [-DREFRESH=ON] -P api_descriptor.cmake")
endif()
get_filename_component(SOURCE_DIR "${SOURCE_DIR}" ABSOLUTE)
if(NOT PROTOC)
  find_program(PROTOC protoc REQUIRED)
endif()
set(proto_dir "${SOURCE_DIR}/proto")
set(frozen "${proto_dir}/api.txtpb")

# Comments and places of lines are no part of the API, so no --include_source_info.
file(GLOB_RECURSE protos RELATIVE "${proto_dir}" "${proto_dir}/*.proto")
list(SORT protos)
string(RANDOM LENGTH 12 suffix)
set(binary "$ENV{TMPDIR}")
if(NOT binary)
  set(binary /tmp)
endif()
string(APPEND binary "/salient_api_${suffix}.binpb")
execute_process(COMMAND "${PROTOC}" -I "${proto_dir}" "--descriptor_set_out=${binary}" ${protos}
                WORKING_DIRECTORY "${proto_dir}" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${PROTOC}" --decode=google.protobuf.FileDescriptorSet
                        google/protobuf/descriptor.proto
                INPUT_FILE "${binary}" OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
file(REMOVE "${binary}")

if(REFRESH)
  file(WRITE "${frozen}" "${text}")
  message(STATUS "wrote ${frozen}")
  return()
endif()
set(committed)
if(EXISTS "${frozen}")
  file(READ "${frozen}" committed)
endif()
if(NOT committed STREQUAL text)
  message(FATAL_ERROR
          "proto/api.txtpb is not what the .proto files say. If the API is meant to change, take it in:\n"
          "  cmake -DSOURCE_DIR=. -DREFRESH=ON -P tests/proto/api_descriptor.cmake\n"
          "and review the difference: fields are added, never renumbered or removed.")
endif()
message(STATUS "proto/api.txtpb is up to date")
