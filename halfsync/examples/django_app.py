"""A Django project that adopts halfsync: `make_app` is called once the flags are parsed, for its settings.

pip install django    # beside halfsync
python django_app.py --web.listen=tcp:9000 --secret_key=...
"""

import sys
from collections.abc import Callable
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from halfsync import About, flag, flags, serve_wsgi


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """What settings.py of a larger project would take from the flags."""

    secret_key = flag.String("Signs sessions.", default="only for development", secure=True)
    debug = flag.Bool("Django's pages of errors.", default=False)


def front(_request: HttpRequest) -> HttpResponse:
    """Greet the client."""
    return HttpResponse(b"Hello from Django\n", content_type="text/plain")


urlpatterns = [path("", front)]


def make_app() -> Callable[..., Any]:
    """Configure Django as the flags say, and return its WSGI application."""
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DEBUG=FLAGS.debug,
        LOGGING_CONFIG=None,  # the log is halfsync's
        ROOT_URLCONF=__name__,
        SECRET_KEY=FLAGS.secret_key,
    )
    django.setup()
    app: Callable[..., Any] = get_wsgi_application()
    return app


if __name__ == "__main__":
    sys.exit(serve_wsgi(make_app, About("django-app", version="1.0"), factory=True))
