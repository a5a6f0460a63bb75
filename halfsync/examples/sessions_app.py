"""Sessions of a Flask application that runs in several processes: in signed cookies, or in Redis.

pip install flask redis    # beside halfsync
python sessions_app.py --secret_key=... --web.listen=tcp:9000    # all of it is in the cookie
python sessions_app.py --redis_url=redis://127.0.0.1:6379/0      # the cookie has an id and nothing else

A signed cookie can be read by its owner, holds 4 KB, and cannot be ended from here before it expires.
What is in Redis can be: by the application, by its lifetime, and for all processes at once.
"""

import json
import secrets
import sys
from typing import Any

import redis
from flask import Flask, Request, Response, request, session
from flask.sessions import SessionInterface, SessionMixin

from halfsync import About, flag, flags, serve_wsgi


@flags.declare(flag.namespace(__name__), at_start=True)
class FLAGS:
    """What all processes have in common."""

    secret_key = flag.String("Signs the cookies; the same in all processes.", default="", secure=True)
    redis_url = flag.String("Where sessions are kept; empty: in cookies.", default="", secure=True)
    lifetime = flags.Seconds("Time after which a session that is not used has ended.", default=3600)


class StoredSession(dict[str, Any], SessionMixin):
    """What is known of a user, and the id that the cookie has."""

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.name = name


class RedisSessions(SessionInterface):
    """Keeps sessions in Redis: one request loads, changes and stores its own; the last one of two wins."""

    def __init__(self, url: str) -> None:
        self.redis: Any = redis.Redis.from_url(url, socket_timeout=2)

    def open_session(self, app: Flask, request: Request) -> StoredSession:
        """Load the session that the cookie names, or begin one: an id that we have not made is not taken."""
        name = request.cookies.get(self.get_cookie_name(app), "")
        stored = self.redis.get(f"session:{name}") if name else None
        return (
            StoredSession(name, json.loads(stored)) if stored else StoredSession(secrets.token_urlsafe(), {})
        )

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Store it for a while; an empty one is forgotten, and its cookie with it."""
        assert isinstance(session, StoredSession)  # noqa: S101  what open_session returned
        cookie, key = self.get_cookie_name(app), f"session:{session.name}"
        if not session:
            self.redis.delete(key)
            response.delete_cookie(cookie)
            return
        self.redis.set(key, json.dumps(session), ex=int(FLAGS.lifetime))
        response.set_cookie(cookie, session.name, httponly=True, secure=request.is_secure, samesite="Lax")
        response.vary.add("Cookie")


def make_app() -> Flask:
    """Return the application; flags have their values by now."""
    app = Flask(__name__)
    app.permanent_session_lifetime = FLAGS.lifetime
    if FLAGS.redis_url:
        app.session_interface = RedisSessions(FLAGS.redis_url)
    elif FLAGS.secret_key:
        app.secret_key = FLAGS.secret_key
    else:
        raise SystemExit("--secret_key or --redis_url: one of them is needed")

    @app.post("/login/<name>")
    def login(name: str) -> str:
        """Begin a session anew, so that nobody else knows its id."""
        session.clear()
        session["name"] = name
        return "welcome\n"

    @app.get("/")
    def front() -> str:
        """Greet the user."""
        return f"Hello, {session.get('name', 'stranger')}\n"

    @app.post("/logout")
    def logout() -> str:
        """End the session."""
        session.clear()
        return "goodbye\n"

    return app


if __name__ == "__main__":
    sys.exit(serve_wsgi(make_app, About("sessions-app", version="1.0"), factory=True))
