/* What the service answers over RPC; `make thrift` makes the Python of gen/hello/ from it.
 * Without (python.immutable = "false"), an exception could not pass through `with`, nor through Twisted. */
namespace py {{ cookiecutter.package_name }}.gen.hello

exception InvalidName {
  1: string reason
} (python.immutable = "false")

service Hello {
  string hello(1: string name) throws (1: InvalidName invalid)
}
