"""What SQLAlchemy does on psycopg: units of work, savepoints, isolation levels, reflection, and cursors of the server."""

import enum
import json
import threading
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

CLIENTS = 8
ROUNDS = 4


def fact(name, value):
    print(json.dumps({"fact": name, "value": value}, default=str), flush=True)


def engine_of(**options):
    arguments = {"sslmode": "disable", "prepare_threshold": 1}
    return sa.create_engine("postgresql+psycopg://", connect_args=arguments, **options)


def failure_of(ask):
    try:
        ask()
        return "no error"
    except sa.exc.DBAPIError as error:
        return error.orig.sqlstate


class Base(orm.DeclarativeBase):
    pass


class Mood(enum.Enum):
    happy = "happy"
    sad = "sad"


class Person(Base):
    __tablename__ = "person"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(unique=True)
    mood: orm.Mapped[Mood] = orm.mapped_column(postgresql.ENUM(Mood, name="mood", create_type=False))
    more: orm.Mapped[dict] = orm.mapped_column(postgresql.JSONB)
    numbers: orm.Mapped[list] = orm.mapped_column(postgresql.ARRAY(sa.Integer))
    price: orm.Mapped[Decimal] = orm.mapped_column(sa.Numeric(10, 2))
    pets: orm.Mapped[list["Pet"]] = orm.relationship(back_populates="owner", cascade="all, delete-orphan")


class Pet(Base):
    __tablename__ = "pet"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
    owner_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("person.id"))
    owner: orm.Mapped[Person] = orm.relationship(back_populates="pets")


def person(n, **more):
    values = {"name": f"person {n}", "mood": Mood.happy, "more": {"n": [n, "ü"]}, "numbers": [n, n + 1]}
    return Person(**{**values, "price": Decimal(n) / 4, **more})


NEXT = sa.text("SELECT :n + 1, pg_backend_pid()")


def move(clients, holder):
    """Every client asks while another transaction holds a server, and again when that one has just become free."""
    values, pids = [], [set() for _ in clients]

    def ask(index):
        value, pid = clients[index].execute(NEXT, {"n": len(values)}).one()
        clients[index].commit()
        values.append(value)
        pids[index].add(pid)

    for _ in range(ROUNDS):
        for index in range(len(clients)):
            with holder.begin():
                holder.execute(sa.text("SELECT 1"))
                ask(index)
            ask(index)
    fact("prepared", values)
    fact("servers", [len(seen) for seen in pids])


engine = engine_of(pool_size=CLIENTS, max_overflow=1, pool_pre_ping=True)
clients = [engine.connect() for _ in range(CLIENTS)]
with engine.connect() as holder:
    move(clients, holder)
for client in clients:
    client.close()

Base.metadata.create_all(engine)
Base.metadata.create_all(engine)
inspector = sa.inspect(engine)
fact("tables", sorted(inspector.get_table_names()))
fact("columns", [(column["name"], column["type"]) for column in inspector.get_columns("person")])
fact("constraints", [inspector.get_unique_constraints("person"), inspector.get_foreign_keys("pet")])

with orm.Session(engine) as session:
    session.add_all([person(n, pets=[Pet(name=f"pet {n}.{m}") for m in range(2)]) for n in range(200)])
    session.commit()
    fact("inserted in batches", session.scalar(sa.select(sa.func.count(Pet.id))))
    found = session.scalars(sa.select(Person).options(orm.selectinload(Person.pets)).order_by(Person.id).limit(3)).all()
    fact("loaded", [(one.name, one.mood, one.more, one.numbers, one.price, len(one.pets)) for one in found])
    found[0].mood = Mood.sad
    found[1].pets.clear()
    session.delete(found[2])
    session.commit()
    fact("after the unit of work", session.scalar(sa.select(sa.func.count(Pet.id))))
    fact("sad", session.scalars(sa.select(Person.name).where(Person.mood == Mood.sad)).all())

    def taken():
        with session.begin_nested():
            session.add(person(1))

    session.add(person(1000))
    fact("a name that is taken", failure_of(taken))
    session.commit()
    fact("kept around the savepoint", session.scalar(sa.select(sa.func.count(Person.id))))
    streamed = session.scalars(sa.select(Person.id).execution_options(yield_per=50))
    fact("partitions of a cursor", [len(part) for part in streamed.partitions()])

with engine.connect() as connection:
    fact("error in a transaction", failure_of(lambda: connection.execute(sa.text("SELECT 1 / :n"), {"n": 0})))
    fact("the transaction after it", failure_of(lambda: connection.execute(sa.text("SELECT 1"))))
    connection.rollback()
    fact("after the rollback", connection.scalar(sa.text("SELECT 1")))

for level in ("SERIALIZABLE", "REPEATABLE READ", "AUTOCOMMIT", "READ COMMITTED"):
    with engine.connect().execution_options(isolation_level=level) as connection:
        fact(level, connection.scalar(sa.text("SHOW transaction_isolation")))
with engine.connect().execution_options(isolation_level="SERIALIZABLE", postgresql_readonly=True) as connection:
    fact("read only", failure_of(lambda: connection.execute(sa.text("DELETE FROM pet"))))
with engine.connect() as connection:
    left = [connection.scalar(sa.text(f"SHOW transaction_{what}")) for what in ("isolation", "read_only")]
    fact("isolation of the next", left)

upsert = postgresql.insert(Person).values(name="person 5", mood=Mood.sad, more={}, numbers=[], price=1)
upsert = upsert.on_conflict_do_update(index_elements=["name"], set_={"more": {"again": True}}).returning(Person.more)
with engine.begin() as connection:
    fact("upsert", connection.scalar(upsert))
    rows = [{"n": n, "t": f"line {n}"} for n in range(500)]
    smoke = sa.Table("smoke", sa.MetaData(), autoload_with=connection)
    fact("many", len(connection.execute(smoke.insert().returning(smoke.c.n), rows).all()))

sums = [0] * CLIENTS


def add(index):
    for n in range(25):
        with orm.Session(engine) as session:
            sums[index] += session.execute(NEXT, {"n": n * index}).one()[0]


threads = [threading.Thread(target=add, args=(index,)) for index in range(CLIENTS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
fact("at once", sums)
engine.dispose()
with engine.connect() as connection:
    fact("after dispose", connection.scalar(sa.text("SELECT count(*) FROM smoke")))
engine.dispose()
