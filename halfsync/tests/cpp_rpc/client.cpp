// A client of Apache's C++ library: PORT and how it speaks.
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

#include <thrift/TApplicationException.h>
#include <thrift/protocol/TBinaryProtocol.h>
#include <thrift/protocol/TCompactProtocol.h>
#include <thrift/protocol/THeaderProtocol.h>
#include <thrift/protocol/TMultiplexedProtocol.h>
#include <thrift/transport/TBufferTransports.h>
#include <thrift/transport/TSocket.h>

#include "Sample.h"

using apache::thrift::TApplicationException;
using namespace apache::thrift::protocol;
using namespace apache::thrift::transport;

static void need(bool right, const std::string& what) {
  if (!right) throw std::runtime_error("not as it must be: " + what);
}

static std::shared_ptr<TProtocol> speak(std::shared_ptr<TTransport> socket, const std::string& how) {
  if (how == "header-binary" || how == "header-compact" || how == "header-zlib") {
    auto made = std::make_shared<THeaderProtocol>(
        socket, how == "header-compact" ? T_COMPACT_PROTOCOL : T_BINARY_PROTOCOL);
    auto transport = std::dynamic_pointer_cast<THeaderTransport>(made->getTransport());
    if (how == "header-zlib") transport->setTransform(THeaderTransport::ZLIB_TRANSFORM);
    return made;
  }
  auto framed = std::make_shared<TFramedTransport>(socket);
  if (how == "compact") return std::make_shared<TCompactProtocol>(framed);
  auto binary = std::make_shared<TBinaryProtocol>(framed);
  if (how == "multiplexed") return std::make_shared<TMultiplexedProtocol>(binary, "Sample");
  return binary;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string how = argv[2];
  auto socket = std::make_shared<TSocket>("127.0.0.1", std::stoi(argv[1]));
  socket->setRecvTimeout(20000);
  auto protocol = speak(socket, how);
  SampleClient client(protocol);
  socket->open();
  std::string text;
  client.ping(text);
  need(text == "pong", "ping");
  client.hello(text, "Zo\u00eb \u5317\u4eac");
  need(text == "Hello, Zo\u00eb \u5317\u4eac!", "hello");
  std::string bytes;
  for (int n = 0; n < 256; n++) bytes.push_back(static_cast<char>(n));
  client.echo(text, bytes);
  need(text == bytes, "echo");
  Part leaf, given, part;
  leaf.__set_name("leaf");
  given.__set_name("root");
  given.__set_data(bytes);
  given.__set_parts({leaf, leaf});
  client.part(part, given);
  need(part == given, "part");
  std::map<std::string, int64_t> lengths;
  client.lengths(lengths, {"a", "bcd"});
  need(lengths == std::map<std::string, int64_t>{{"a", 1}, {"bcd", 3}}, "lengths");
  client.later(text, "async");
  need(text == "Later, async!", "later");
  client.nothing();
  client.note("oneway");
  try {
    client.hello(text, "");
    need(false, "the declared exception");
  } catch (const InvalidName& error) {
    need(error.reason == "a name is wanted", "its reason");
  }
  try {
    client.hello(text, "boom");
    need(false, "the error of the service");
  } catch (const TApplicationException& error) {
    need(error.getType() == TApplicationException::INTERNAL_ERROR, "its type");
  }
  const auto header = std::dynamic_pointer_cast<THeaderProtocol>(protocol);
  if (header) header->setHeader("x-request-id", "from-cpp");
  client.whoami(text);
  if (header) need(text == "nobody from-cpp", "the request's id: " + text);
  // Many calls first, their answers then.
  for (int n = 0; n < 50; n++) client.send_hello(std::to_string(n));
  for (int n = 0; n < 50; n++) {
    client.recv_hello(text);
    need(text == "Hello, " + std::to_string(n) + "!", "pipelined: " + text);
  }
  std::cout << "all well" << std::endl;
}
