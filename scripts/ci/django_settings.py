"""Settings of Django's own test suite: the two databases that it wants, on one server, made before it begins."""

import os

DATABASES = {
    alias: {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
        "NAME": os.environ["PGDATABASE"] + suffix,
        "TEST": {"NAME": os.environ["PGDATABASE"] + suffix},
    }
    for alias, suffix in (("default", ""), ("other", "_other"))
}
SECRET_KEY = "of no session that lasts"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "django_outcomes.Runner"
