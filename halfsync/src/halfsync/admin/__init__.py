"""The admin interface: the process seen and changed by HTTP.

The reactor answers, also when every worker thread is busy.

listener where it answers, and to whom at all
handler  where it meets HTTP
pages    the paths and what they answer
message  requests and answers, as the pages know them
access   what a request may do
token    the secret that it may need
overview the front page for people
info     versions and the build
body     what a change says
"""

from halfsync.admin.listener import FLAGS, Admin

__all__ = ["FLAGS", "Admin"]
