#include "tests/bench/live_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace salient::bench {
namespace {

// The child's side; never returns.
[[noreturn]] void BecomeServer(std::vector<char*> arguments, int output, const std::string& log) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file >= 0 && dup2(output, STDOUT_FILENO) >= 0 && dup2(file, STDERR_FILENO) >= 0) {
    execv(arguments[0], arguments.data());
  }
  _exit(127);
}

// Reads up to the line feed; empty if the writer went away.
std::string ReadLine(int fd) {
  std::string line;
  char c = 0;
  while (read(fd, &c, 1) == 1) {
    if (c == '\n') return line;
    line.push_back(c);
  }
  return "";
}

std::string WordAfter(const std::string& line, const std::string& key) {
  for (const absl::string_view word : absl::StrSplit(line, ' ')) {
    if (absl::StartsWith(word, key)) return std::string(word.substr(key.size()));
  }
  return "";
}

absl::StatusOr<std::string> Get(const std::string& address, const std::string& path) {
  const std::vector<std::string> parts = absl::StrSplit(address, ':');
  sockaddr_in to{};
  to.sin_family = AF_INET;
  int port = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[1], &port) ||
      inet_pton(AF_INET, parts[0].c_str(), &to.sin_addr) != 1) {
    return absl::InternalError(absl::StrCat("metrics at ", address, "; expected IPv4:PORT"));
  }
  to.sin_port = htons(static_cast<uint16_t>(port));
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) {
    if (fd >= 0) close(fd);
    return absl::UnavailableError(absl::StrCat("cannot connect to http://", address));
  }
  const std::string request =
      absl::StrCat("GET ", path, " HTTP/1.0\r\nHost: ", address, "\r\n\r\n");
  std::string answer;
  if (write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
    char buffer[65536];
    for (ssize_t n = read(fd, buffer, sizeof(buffer)); n > 0;
         n = read(fd, buffer, sizeof(buffer))) {
      answer.append(buffer, static_cast<size_t>(n));
    }
  }
  close(fd);
  const size_t body = answer.find("\r\n\r\n");
  if (body == std::string::npos || !absl::StrContains(answer.substr(0, 32), " 200 ")) {
    return absl::UnavailableError(absl::StrCat("http://", address, path, " did not answer 200"));
  }
  return answer.substr(body + 4);
}

}  // namespace

LiveServer::LiveServer(pid_t pid, std::string address, std::string metrics_address)
    : pid_(pid), address_(std::move(address)), metrics_address_(std::move(metrics_address)) {}

LiveServer::LiveServer(LiveServer&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      address_(std::move(other.address_)),
      metrics_address_(std::move(other.metrics_address_)) {}

LiveServer::~LiveServer() {
  if (pid_ <= 0) return;
  kill(pid_, SIGTERM);
  waitpid(pid_, nullptr, 0);
}

absl::StatusOr<LiveServer> LiveServer::Start(const std::string& program,
                                             const std::vector<std::string>& flags,
                                             const std::string& log) {
  std::vector<std::string> words = {program, "--listen", "127.0.0.1:0", "--metrics-listen",
                                    "127.0.0.1:0"};
  words.insert(words.end(), flags.begin(), flags.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::InternalError("cannot make a pipe");
  const pid_t pid = fork();
  if (pid == 0) BecomeServer(std::move(arguments), ends[1], log);
  close(ends[1]);
  const std::string line = pid > 0 ? ReadLine(ends[0]) : "";
  close(ends[0]);
  const std::string address = WordAfter(line, "grpc=");
  if (!address.empty()) return LiveServer(pid, address, WordAfter(line, "metrics="));
  if (pid > 0) waitpid(pid, nullptr, 0);
  return absl::InternalError(absl::StrCat(program, " did not start; see ", log));
}

absl::StatusOr<Samples> LiveServer::Scrape() const {
  const absl::StatusOr<std::string> text = Get(metrics_address_, "/metrics");
  if (!text.ok()) return text.status();
  Samples samples;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    const size_t blank = line.rfind(' ');
    double value = 0;
    if (absl::StartsWith(line, "#") || blank == absl::string_view::npos ||
        !absl::SimpleAtod(line.substr(blank + 1), &value)) {
      continue;
    }
    samples[std::string(line.substr(0, blank))] = value;
  }
  return samples;
}

double LiveServer::CpuSeconds() const {
  std::ifstream file(absl::StrCat("/proc/", pid_, "/stat"));
  std::string text;
  std::getline(file, text);
  // Fields after the program's name, which may hold blanks: state is the first, utime the 12th.
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

int64_t LiveServer::PeakResidentBytes() const {
  std::ifstream file(absl::StrCat("/proc/", pid_, "/status"));
  for (std::string word; file >> word;) {
    int64_t kib = 0;
    if (word == "VmHWM:" && file >> kib) return kib * 1024;
  }
  return 0;
}

}  // namespace salient::bench
