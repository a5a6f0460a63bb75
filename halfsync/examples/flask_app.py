"""A Flask application that adopts halfsync: the import, and the last two lines.

pip install flask    # beside halfsync
python flask_app.py --web.listen=tcp:9000 --greeting="Good evening"
"""

import sys

from flask import Flask

from halfsync import About, flag, flags, serve_wsgi

app = Flask(__name__)


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """What the front page says."""

    greeting = flag.String("The word of welcome.", default="Hello")


@app.get("/")
def front() -> str:
    """Greet the client."""
    return f"{FLAGS.greeting} from Flask\n"


if __name__ == "__main__":
    sys.exit(serve_wsgi(app, About("flask-app", version="1.0")))
