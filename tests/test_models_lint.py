"""The generated settings of ruff beside models whose annotations are read at run time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "example"

MODELS = '''"""Tables and messages."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """All tables."""


class Order(Base):
    """A row."""

    __tablename__ = "order"
    number: Mapped[int] = mapped_column(primary_key=True)
    taken: Mapped[datetime]


class Message(BaseModel):
    """What comes over the wire."""

    price: Decimal
'''

MORE = '''"""More tables, in a module of their own."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from .models import Base


class Payment(Base):
    """Another row."""

    __tablename__ = "payment"
    number: Mapped[int] = mapped_column(primary_key=True)
    made: Mapped[datetime]
'''

USE = """
from hello_service.models import Message, Order
from hello_service.payments import Payment
assert Message.model_validate({"price": "1.5"}).price
assert {str(each.type) for each in Order.__table__.columns} == {"INTEGER", "DATETIME"}
assert {str(each.type) for each in Payment.__table__.columns} == {"INTEGER", "DATETIME"}
"""


def test_models_of_sqlalchemy_and_pydantic_pass_and_work(tmp_path: Path) -> None:
    """`make format`, with every fix that ruff has, leaves their imports where they are needed."""
    source = tmp_path / "src" / "hello_service"
    source.mkdir(parents=True)
    shutil.copy(EXAMPLE / "pyproject.toml", tmp_path)
    (source / "__init__.py").write_text('"""The service."""\n')
    (source / "models.py").write_text(MODELS)
    (source / "payments.py").write_text(MORE)
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check"], ["check", "--fix", "--unsafe-fixes"], ["format", "--check"]):
        done = subprocess.run(
            [ruff, *command, "src"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path / "src", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
