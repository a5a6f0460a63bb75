# Made from the code beside it by halfsync.thrift.stubs; do not edit.
