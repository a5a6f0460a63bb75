/* The services of the tests of RPC. Here, thrift --gen py:slots -out . sample.thrift (0.17) renews sample_rpc/. */
namespace py sample_rpc

exception InvalidName {
  1: string reason
} (python.immutable = "false")

struct Empty {
}

struct Part {
  1: required string name
  2: optional binary data
  3: optional list<Part> parts
}

service Base {
  string ping()
}

service Sample extends Base {
  string hello(1: string name) throws (1: InvalidName invalid)
  binary echo(1: binary data)
  i32 count(1: list<Empty> items)
  i32 sums(1: list<list<i32>> numbers)
  Part part(1: required Part given)
  map<string, i64> lengths(1: set<string> words)
  string whoami()
  string later(1: string name)
  void nothing()
  oneway void note(1: string text)
  string wait(1: string name)
}
