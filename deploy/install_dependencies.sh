#!/usr/bin/env bash
# Installs the Debian packages that Salient needs (bookworm or trixie). Does nothing, at once, when
# all are there.
#
#   deploy/install_dependencies.sh build        what `cmake --preset release` and ninja need
#   deploy/install_dependencies.sh quickstart   the same, and NumPy to make the model of the quickstart
#   deploy/install_dependencies.sh test         build, and the tools that the tests drive
set -euo pipefail

build=(
  g++ cmake ninja-build ccache python3 pkg-config            # the tools
  libgrpc++-dev protobuf-compiler-grpc                       # the service
  libprotobuf-dev protobuf-compiler
  libabsl-dev                                                # status, strings, spans
  libdnnl-dev libhwy-dev                                     # matrix products, vector kernels
  ocl-icd-opencl-dev                                         # oneDNN 2.6's CMake package asks for it
  libisal-dev                                                # crc32c of chunks
  nlohmann-json3-dev                                         # safetensors headers, group files
  libre2-dev                                                 # regular expressions of configs
  prometheus-cpp-dev libspdlog-dev libcli11-dev              # metrics, logs, flags
  libssl-dev zlib1g-dev                                      # sha256 of blobs; what gRPC links
  libgtest-dev libgmock-dev libbenchmark-dev                 # the tests and benchmarks
)
quickstart=(python3-numpy)
test=(git python3-venv python3-pip curl ca-certificates)
# Tests say SKIPPED without these; a release that does not have one is no reason to stop.
test_if_there=(prometheus clang-format-14 clang-19 clang-tidy-19 libomp-19-dev shellcheck)  # omp.h for clang

usage() {
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
[ $# -eq 1 ] || usage
wanted=("${build[@]}")
optional=()
case $1 in
  build) ;;
  quickstart) wanted+=("${quickstart[@]}") ;;
  test) wanted+=("${test[@]}") optional=("${test_if_there[@]}") ;;
  *) usage ;;
esac

if ! command -v apt-get > /dev/null; then
  echo "install_dependencies: this is not Debian; the packages needed, by Debian's names: ${wanted[*]} ${optional[*]}" >&2
  exit 1
fi

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2> /dev/null)" = installed ]; }
missing=()
for package in "${wanted[@]}" "${optional[@]}"; do
  installed "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo > /dev/null; then
    echo "install_dependencies: neither root nor sudo; missing: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q "$@"
}

# A broken third-party source must not stop what Debian itself can deliver: install decides.
apt update || echo "install_dependencies: apt-get update failed, trying with what it knows" >&2
install=()
for package in "${missing[@]}"; do
  if [[ " ${optional[*]} " == *" $package "* ]] && ! apt-cache show "$package" > /dev/null 2>&1; then
    echo "install_dependencies: $package is not in this release; its tests will say SKIPPED" >&2
  else
    install+=("$package")
  fi
done
[ ${#install[@]} -eq 0 ] || apt install -y --no-install-recommends "${install[@]}"
