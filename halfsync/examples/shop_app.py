"""A Flask shop on PostgreSQL: a pool of connections as large as that of threads, migrations as a command.

pip install flask sqlalchemy "psycopg[binary]"    # beside halfsync
python shop_app.py --database=postgresql+psycopg:///shop run migrate
python shop_app.py --database=postgresql+psycopg:///shop --web.listen=tcp:9000
"""

import sys

from flask import Flask, Response, abort, jsonify, request
from sqlalchemy import Engine, ForeignKey, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from halfsync import (
    About,
    Admin,
    Gateway,
    Periodic,
    Process,
    Tasks,
    WebListener,
    flag,
    flags,
    run,
    workers_from_flags,
)

MIGRATIONS = [
    "create table product (id serial primary key, name text not null, stock integer not null)",
    "create table purchase (id serial primary key, product_id integer not null references product)",
    "alter table product add check (stock >= 0)",
]
"""Each is run once, in order; new ones come at the end. Alembic does more, the command stays the same."""


@flags.declare(flag.namespace(__name__), at_start=True)
class FLAGS:
    """Where the data is."""

    database = flag.String("URL of SQLAlchemy.", default="postgresql+psycopg:///shop", secure=True)


class Base(DeclarativeBase):
    """All tables."""


class Product(Base):
    """What can be bought."""

    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    stock: Mapped[int]


class Purchase(Base):
    """One bought."""

    __tablename__ = "purchase"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))


def make_app(engine: Engine) -> Flask:
    """Return the application; each request has a session, and so a connection, while it runs."""
    app = Flask(__name__)

    @app.get("/products")
    def products() -> Response:
        with Session(engine) as session:
            return jsonify({each.name: each.stock for each in session.scalars(select(Product))})

    @app.post("/products/<name>")
    def stock_up(name: str) -> tuple[str, int]:
        with Session(engine) as session, session.begin():
            session.add(Product(name=name, stock=int(request.form["stock"])))
        return "created\n", 201

    @app.post("/products/<name>/buy")
    def buy(name: str) -> str:
        with Session(engine) as session, session.begin():
            # Of two buyers of the last one, the second waits for the first, and finds none.
            product = session.scalar(select(Product).where(Product.name == name).with_for_update())
            if product is None or product.stock < 1:
                abort(409, "sold out")
            product.stock -= 1
            session.add(Purchase(product_id=product.id))
        return "bought\n"

    return app


def migrate(_arguments: list[str]) -> None:
    """Bring the tables up to date; processes that are deployed at once wait for each other."""
    with create_engine(FLAGS.database).begin() as db:
        db.execute(text("select pg_advisory_xact_lock(7266)"))
        db.execute(text("create table if not exists migrated (number integer primary key)"))
        done = set(db.scalars(text("select number from migrated")))
        for number in sorted(set(range(len(MIGRATIONS))) - done):
            db.execute(text(MIGRATIONS[number]))
            db.execute(text("insert into migrated values (:number)"), {"number": number})


def parts(process: Process) -> None:
    """Name the parts: each thread can have a connection, and none is held by a request that waits."""
    process.add(Admin.from_flags(process))
    workers = process.add(workers_from_flags(process.reactor))
    engine = create_engine(FLAGS.database, pool_size=workers.threads, max_overflow=1, pool_pre_ping=True)

    def check() -> None:
        with engine.connect() as db:
            db.execute(text("select 1"))

    process.add(WebListener.from_flags(Gateway(make_app(engine), workers), process.reactor))
    process.add(Tasks(Periodic("database", 5, check, critical=True, timeout=2, reactor=process.reactor)))


if __name__ == "__main__":
    sys.exit(run(About("shop-app", version="1.0"), parts, commands={"migrate": migrate}))
