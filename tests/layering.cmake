# Fails if a room of the house knows what it may not know.
#
#   cmake -DSOURCE_DIR=<repository> -P layering.cmake
#
# Who may include whom, one line a room. A room without a line is an error, so that a new room
# decides here whom it knows. System headers are visible to every target: linking does not
# enforce this.
cmake_minimum_required(VERSION 3.25)

if(NOT SOURCE_DIR)
  message(FATAL_ERROR "usage: cmake -DSOURCE_DIR=<repository> -P layering.cmake")
endif()
get_filename_component(SOURCE_DIR "${SOURCE_DIR}" ABSOLUTE)

set(top_level
    client core deploy proto server tests CMakeLists.txt CMakePresets.json Dockerfile README.md
    .ci .clang-format .clang-tidy .dockerignore .gitignore)
set(not_ours .git build .cache .idea .vscode)  # git, CMake and editors leave these behind

# knows_<directory>: directories of ours whose headers this one may include (a directory does not
# speak for those below it). Innermost first within a house.
set(core_rooms
    core/text core/tensor core/parallel core/kernels core/linalg core/file core/config
    core/config/model core/safetensors core/checkpoint core/model core/model/blocks core/model/families core/quality core/statistics
    core/method core/pack core/group core/result core/source core/quantize core/evaluate
    core/study core/cost core/engines)
set(client_rooms
    client/terminal client/options client/transfer client/jobs client/report client/tensors
    client/commands client)
set(rooms
    core ${core_rooms} server server/error server/process server/store server/workers server/calls
    server/jobs server/observe server/listen server/rpc/convert server/rpc/unary server/rpc/streams
    server/rpc
    ${client_rooms} proto/wire)
set(knows_core)
set(knows_core/text core/text)
set(knows_core/tensor core/tensor)
set(knows_core/parallel core/parallel)
set(knows_core/kernels core/tensor core/kernels)
set(knows_core/linalg core/tensor core/parallel core/kernels core/linalg)
set(knows_core/file core/file)
set(knows_core/config core/text core/tensor core/config)
set(knows_core/config/model core/text core/tensor core/config core/config/model)
set(knows_core/safetensors core/text core/tensor core/file core/config core/safetensors)
set(knows_core/checkpoint core/text core/tensor core/parallel core/file core/config core/safetensors
    core/checkpoint)
set(read_checkpoints core/text core/config core/config/model core/safetensors core/checkpoint)
set(knows_core/model ${knows_core/linalg} ${read_checkpoints} core/file core/model)
set(knows_core/model/blocks ${knows_core/model} core/model/blocks)
set(knows_core/model/families core/text core/config core/config/model core/model core/model/families)
set(knows_core/quality core/tensor core/quality)
set(knows_core/statistics ${knows_core/linalg} core/statistics)
set(knows_core/method ${knows_core/statistics} core/method)
set(knows_core/pack core/tensor core/pack)
set(knows_core/group ${knows_core/method} core/pack core/group)
set(knows_core/result
    core/tensor ${read_checkpoints} core/file core/model core/pack core/group core/result)
set(knows_core/source ${knows_core/result} ${knows_core/linalg} core/method core/source)
set(knows_core/quantize ${knows_core/model/blocks} core/statistics core/method core/pack core/group
    core/result core/quantize)
set(knows_core/evaluate ${knows_core/model/blocks} core/quality core/evaluate)
set(knows_core/study ${knows_core/quantize} core/source core/evaluate core/study)
set(knows_core/cost ${knows_core/study} core/cost)
set(knows_core/engines core/tensor ${read_checkpoints} core/model core/model/families core/pack
    core/result core/source core/engines)
set(knows_server/error server/error)
set(knows_server/process core/file core/parallel server/process)
set(knows_server/store core/text core/parallel proto/wire server/store)
set(knows_server/listen core/parallel server/listen)
set(knows_server/workers ${core_rooms} server/error server/workers)
set(knows_server/calls ${core_rooms} proto/wire server/error server/workers server/calls)
set(knows_server/jobs ${core_rooms} proto/wire server/error server/process server/store
    server/workers server/jobs)
set(knows_server/observe ${core_rooms} server/error server/process server/store server/workers
    server/calls server/jobs server/listen server/observe)
set(below_rpc ${knows_server/observe} proto/wire)
set(knows_server/rpc/convert ${below_rpc} server/rpc/convert)
set(knows_server/rpc/unary ${below_rpc} server/rpc/convert server/rpc/unary)
set(knows_server/rpc/streams ${knows_server/rpc/unary} server/rpc/streams)
set(knows_server/rpc ${knows_server/rpc/streams} server/rpc)
set(knows_server ${knows_server/rpc} server)
set(files_of_core core/text core/tensor core/file core/config core/config/model core/safetensors core/checkpoint)
set(below_client ${files_of_core} proto/wire client/terminal)
set(knows_client/terminal ${below_client})
set(knows_client/options ${below_client} client/options)
set(knows_client/transfer ${below_client} client/transfer)
set(knows_client/jobs ${below_client} client/options client/transfer client/jobs)
set(knows_client/report ${below_client} client/options client/jobs client/report)
set(knows_client/tensors ${below_client} client/options client/report client/tensors)
set(knows_client/commands ${below_client} ${client_rooms})
set(knows_client core/file client/terminal client/commands)
set(knows_proto/wire proto/wire)

# Single files that know more than their room, or a library that only they may see.
set(knows_core/group/pack_linears.h core/safetensors)
set(knows_core/statistics/statistics_file.cc core/text core/config core/safetensors)
set(knows_core/statistics/tensor_reader.h core/safetensors)
set(knows_server/rpc/endpoint.h server)
set(knows_client/transfer/embedded.cc server)
set(knows_client/commands/flags.cc core/method core/engines)  # for the bounds of flags

# These are libraries and generated code, by the beginning of the included path.
set(grpc_or_protobuf "^(grpc/|grpc\\+\\+/|grpcpp/|google/|salient/v1/)")
set(prometheus "^prometheus/")
set(libraries_of_core "^(oneapi/|dnnl|hwy/|nlohmann/|re2/|spdlog/|CLI/|isa-l|openssl/|sqlite3)")
foreach(file gemm.cc onednn_matmul.h)
  set(library_of_core/linalg/${file} "^(oneapi/|dnnl)")
endforeach()
foreach(kernels sum round search search_sum panel error elimination forward token transpose)
  set(library_of_core/kernels/${kernels}_kernels.cc "^hwy/")
endforeach()
set(library_of_core/config/json.cc "^nlohmann/")
set(library_of_core/config/name_pattern.cc "^re2/")
# core is pure: no clock, no environment, no streams, no threads of its own.
set(impure_headers
    "^(chrono|ctime|time\\.h|sys/time\\.h|absl/time/.*|iostream|thread|future|absl/log/.*)$")
set(impure_code "(^|[^A-Za-z_])((std::)?(secure_)?getenv|(std::)?f?printf|std::(cout|cerr|clog|chrono))([^A-Za-z_]|$)")

set(faults 0)
macro(fault where what)
  math(EXPR faults "${faults} + 1")
  message(SEND_ERROR "${where}: ${what}")
endmacro()

function(includes_of file result)
  file(STRINGS "${SOURCE_DIR}/${file}" lines REGEX "^[ \t]*#[ \t]*include[ \t]*[<\"]")
  set(paths)
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"]*).*" "\\1" path "${line}")
    list(APPEND paths "${path}")
  endforeach()
  set(${result} "${paths}" PARENT_SCOPE)
endfunction()

# 1. Nothing else may stand at the top level.
file(GLOB entries LIST_DIRECTORIES true RELATIVE "${SOURCE_DIR}" "${SOURCE_DIR}/*" "${SOURCE_DIR}/.*")
list(REMOVE_DUPLICATES entries)
foreach(entry IN LISTS entries)
  if(NOT entry IN_LIST top_level AND NOT entry IN_LIST not_ours AND NOT entry MATCHES "^\\.\\.?$")
    fault("${entry}" "nothing of this name stands at the top level")
  endif()
endforeach()

# 2. Every source file is looked at.
file(GLOB_RECURSE files RELATIVE "${SOURCE_DIR}"
     "${SOURCE_DIR}/core/*.h" "${SOURCE_DIR}/core/*.cc" "${SOURCE_DIR}/server/*.h"
     "${SOURCE_DIR}/server/*.cc" "${SOURCE_DIR}/client/*.h" "${SOURCE_DIR}/client/*.cc"
     "${SOURCE_DIR}/proto/*.h" "${SOURCE_DIR}/proto/*.cc")
foreach(file IN LISTS files)
  get_filename_component(room "${file}" DIRECTORY)
  get_filename_component(stem "${file}" NAME_WE)
  if(NOT room IN_LIST rooms)
    fault("${file}" "tests/layering.cmake does not say whom the room ${room} may know")
    continue()
  endif()
  if(stem MATCHES "^(.*_)?(utils?|common|helpers?|manager)$")
    fault("${file}" "the name does not say what is inside")
  endif()
  string(REGEX MATCH "^[^/]+" house "${room}")

  set(sees_protobuf FALSE)
  set(sees_core FALSE)
  includes_of("${file}" includes)
  foreach(include IN LISTS includes)
    if(include MATCHES "${grpc_or_protobuf}")
      set(sees_protobuf TRUE)
      if(NOT room MATCHES "^(server/rpc|client)(/|$)"
         AND NOT file MATCHES "^server/server\\.(cc|h)$")
        fault("${file}" "gRPC and protobuf live in server/rpc and client, not here: ${include}")
      endif()
    elseif(include MATCHES "${prometheus}")
      if(NOT room STREQUAL "server/observe")
        fault("${file}" "prometheus lives in server/observe, not here: ${include}")
      endif()
    elseif(include MATCHES "^(core|server|client|proto)/")
      get_filename_component(included_room "${include}" DIRECTORY)
      if(included_room MATCHES "^core")
        set(sees_core TRUE)
      endif()
      if(NOT included_room IN_LIST knows_${room} AND NOT included_room IN_LIST knows_${file})
        fault("${file}" "${room} may not know ${included_room}: ${include}")
      endif()
    elseif(include MATCHES "${libraries_of_core}" AND house STREQUAL "core")
      if(NOT DEFINED library_of_${file} OR NOT include MATCHES "${library_of_${file}}")
        fault("${file}" "core knows std, Abseil and itself, and this file is not the one for ${include}")
      endif()
    elseif(include MATCHES "^(oneapi/|dnnl|hwy/)")
      fault("${file}" "oneDNN lives in core/linalg and Highway in core/kernels, not here: ${include}")
    elseif(include MATCHES "^openssl/" AND NOT file STREQUAL "proto/wire/sha256.cc")
      fault("${file}" "OpenSSL lives in proto/wire/sha256.cc, not here: ${include}")
    elseif(include MATCHES "^re2/")
      fault("${file}" "RE2 lives in core/config/name_pattern.cc, not here: ${include}")
    endif()
    if(house STREQUAL "core" AND include MATCHES "${impure_headers}")
      fault("${file}" "core has no clock, stream, thread or logger: ${include}")
    endif()
  endforeach()

  if(house STREQUAL "server" AND sees_protobuf AND sees_core
     AND NOT room STREQUAL "server/rpc/convert")
    fault("${file}" "the files of server/rpc/convert are the only ones with both protobuf and core")
  endif()
  if(house STREQUAL "core")
    file(STRINGS "${SOURCE_DIR}/${file}" impure REGEX "${impure_code}")
    foreach(line IN LISTS impure)
      if(NOT line MATCHES "^[ \t]*//")
        string(STRIP "${line}" line)
        fault("${file}" "core reads no environment or clock and prints nothing: ${line}")
      endif()
    endforeach()
  endif()
endforeach()

list(LENGTH files count)
if(count EQUAL 0)
  fault("${SOURCE_DIR}" "no source file was found: this is not the repository")
endif()
if(faults EQUAL 0)
  message(STATUS "layering: ${count} files keep to their rooms")
endif()
