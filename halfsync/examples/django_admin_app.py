"""Django with its admin: settings from flags, static files from the package, `run manage` for its commands.

pip install django    # beside halfsync
python django_admin_app.py --database=/tmp/admin.sqlite3 run manage migrate
python django_admin_app.py --database=/tmp/admin.sqlite3 run manage createsuperuser
python django_admin_app.py --database=/tmp/admin.sqlite3 --web.listen=tcp:9000    # /admin/
"""

import sys
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.urls import URLPattern, URLResolver, path

from halfsync import About, StaticFiles, flag, flags, serve_wsgi

urlpatterns: list[URLPattern | URLResolver] = []


@flags.declare(flag.namespace(__name__), at_start=True)
class FLAGS:
    """What settings.py of a larger project would take from the flags."""

    database = flag.String("A file of SQLite.", default="admin.sqlite3")
    secret_key = flag.String("Signs sessions.", default="only for development", secure=True)
    hosts = flag.List(flag.String, ",", "Names that it answers to.", default=["127.0.0.1"])
    debug = flag.Bool("Django's pages of errors.", default=False)


def set_up() -> None:
    """Configure Django as the flags say."""
    settings.configure(
        ALLOWED_HOSTS=FLAGS.hosts,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FLAGS.database}},
        DEBUG=FLAGS.debug,
        INSTALLED_APPS=[
            f"django.contrib.{each}" for each in ("admin", "auth", "contenttypes", "sessions", "messages")
        ],
        LOGGING_CONFIG=None,  # the log is halfsync's
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        ROOT_URLCONF=__name__,
        SECRET_KEY=FLAGS.secret_key,
        STATIC_URL="/static/",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        USE_TZ=True,
    )
    django.setup()
    from django.contrib import admin  # noqa: PLC0415  its models need the settings

    urlpatterns.append(path("admin/", admin.site.urls))


def make_app() -> Callable[..., Any]:
    """Return the application."""
    set_up()
    app: Callable[..., Any] = get_wsgi_application()
    return app


def manage(arguments: list[str]) -> None:
    """Run one of Django's commands: `run manage migrate`."""
    set_up()
    execute_from_command_line(["manage", *arguments])


if __name__ == "__main__":
    about = About("django-admin-app", version="1.0")
    static = StaticFiles(files("django.contrib.admin") / "static", max_age=3600)
    sys.exit(
        serve_wsgi(
            make_app,
            about,
            factory=True,
            beside=lambda _: {"/static": static},
            commands={"manage": manage},
        )
    )
