"""What a process is called, where only its name is given."""

from __future__ import annotations

import pytest

from halfsync.life.about import About


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("hello-service", "hello_service"),
        ("Shop 2.0", "shop_2_0"),
        ("Grüße", "gr__e"),
        ("plain", "plain"),
    ],
)
def test_a_package_is_made_of_the_name(name, package):
    """It is the prefix of environment variables: letters of ASCII, digits and underscores."""
    about = About(name)
    assert (about.name, about.package) == (name, package)
    assert (about.version, about.summary) == ("0", "")


def test_a_package_that_is_given_stays():
    """As Python imports it."""
    assert About("hello-service", package="Other.place").package == "Other.place"
