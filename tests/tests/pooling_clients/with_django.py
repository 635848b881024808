"""Django with persistent connections: migrations, its test database, transactions, cursors on the server."""

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import django
from django.conf import settings

CLIENTS = 6

settings.configure(
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"], "PASSWORD": os.environ["PGPASSWORD"], "NAME": os.environ["PGDATABASE"],
        "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True,
        "TEST": {"NAME": os.environ["PGDATABASE"] + "_test"},
    }},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", USE_TZ=True, SECRET_KEY="of a test",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
)
django.setup()

from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import DataError, IntegrityError, connection, transaction  # noqa: E402
from django.db.models import Count, F  # noqa: E402


def persons(client):
    """What requests do: each begins with a check of its thread's own connection."""
    seen = []
    user = User.objects.create_user(f"user{client}", f"{client}@example.org", "secret")
    seen.append(User.objects.get(username=f"user{client}").check_password("secret"))
    group, made = Group.objects.get_or_create(name=f"group{client}")
    seen.append((made, Group.objects.get_or_create(name=f"group{client}")[1]))
    user.groups.add(group)
    group.permissions.set(Permission.objects.order_by("codename")[:5])
    seen.append(list(group.permissions.order_by("codename").values_list("codename", flat=True)))
    with transaction.atomic():
        locked = User.objects.select_for_update().get(pk=user.pk)
        locked.first_name = "first"
        locked.save()
        try:
            with transaction.atomic():
                User.objects.create_user(f"user{client}")
        except IntegrityError as error:
            seen.append(error.__cause__.sqlstate)
        User.objects.filter(pk=user.pk).update(last_name=F("first_name"))
    try:
        with transaction.atomic():
            User.objects.create_user(f"gone{client}")
            Group.objects.create(name="x" * 200)
    except DataError as error:
        seen.append(error.__cause__.sqlstate)
    seen.append(list(User.objects.filter(username__endswith=client).values_list("username", "first_name", "last_name")))
    return seen


def cursors(client):
    """iterator() is a cursor WITH HOLD outside of a transaction, and an ordinary one inside."""
    Group.objects.bulk_create([Group(name=f"many{client}-{n}") for n in range(300)], batch_size=70)
    mine = Group.objects.filter(name__startswith=f"many{client}-").order_by("pk")
    seen = [sum(1 for _ in mine.iterator(chunk_size=50))]
    with transaction.atomic():
        seen.append(sum(1 for _ in mine.iterator(chunk_size=50)))
    # Left in the middle.
    seen.append([group.name for group, _ in zip(mine.iterator(chunk_size=20), range(3))])
    seen.append(mine.aggregate(Count("pk")))
    seen.append(mine.delete())
    return seen


def sessions(client):
    store = SessionStore()
    store["client"] = client
    store.save()
    transaction.on_commit(lambda: None)
    return SessionStore(session_key=store.session_key)["client"]


all_there = threading.Barrier(CLIENTS)


def work(client):
    connection.ensure_connection()
    all_there.wait(60)
    try:
        results = []
        for _request in range(2):
            connection.close_if_unusable_or_obsolete()
            results.append(connection.connection is not None)
        return results + [persons(client), cursors(client), sessions(client)]
    finally:
        connection.close()


def work_of_all():
    subprocess.run(os.environ["SETTLED"], shell=True, check=True)
    with ThreadPoolExecutor(CLIENTS) as executor:
        for client, results in enumerate(executor.map(work, range(CLIENTS))):
            print(client, results)


call_command("migrate", verbosity=1, no_color=True)
work_of_all()
call_command("migrate", "sessions", "zero", verbosity=1, no_color=True)
print(sorted(connection.introspection.table_names()))
name = connection.creation.create_test_db(verbosity=0, autoclobber=True)
work_of_all()
print(User.objects.count())
# Kept: a pool may have connections to it for a while after its clients have left.
connection.creation.destroy_test_db(settings.DATABASES["default"]["NAME"], verbosity=0, keepdb=True)
print("done")
