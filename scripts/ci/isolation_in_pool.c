/*
 * For PostgreSQL's isolationtester before a pool in transaction mode, loaded into it by LD_PRELOAD.
 *
 * The tester asks whether a session waits for a lock by the process ID that the session was told at its login. In a pool
 * that process need not be the one that has the session's transaction now. The tester gives each session an
 * application_name, which goes with it to any server connection: here a session has a number in place of its process ID,
 * and the question is asked about the process that has the name of that number. Nothing else is changed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

typedef struct pg_conn PGconn;
typedef struct pg_result PGresult;
typedef unsigned int Oid;

extern const char *PQparameterStatus(const PGconn *conn, const char *name);

#define QUESTION "pg_isolation_test_session_is_blocked"
#define NAMING "SELECT set_config('application_name'"

/* The first is the tester's own connection. Specifications have at most eight more. */
#define CONNECTIONS_MAX 64
static const PGconn *connections[CONNECTIONS_MAX];
static char names[CONNECTIONS_MAX][64];

static void *next(const char *name)
{
	void	   *found = dlsym(RTLD_NEXT, name);

	if (found == NULL)
	{
		fprintf(stderr, "isolation_in_pool: no %s: %s\n", name, dlerror());
		exit(1);
	}
	return found;
}

static int number_of(const PGconn *conn)
{
	for (int i = 0; i < CONNECTIONS_MAX; i++)
	{
		if (connections[i] == NULL)
			connections[i] = conn;
		if (connections[i] == conn)
			return i + 1;
	}
	fprintf(stderr, "isolation_in_pool: more than %d connections\n", CONNECTIONS_MAX);
	exit(1);
}

int PQbackendPID(const PGconn *conn)
{
	return number_of(conn);
}

PGresult *PQexecParams(PGconn *conn, const char *command, int nparams, const Oid *types, const char *const *values,
					   const int *lengths, const int *formats, int format)
{
	PGresult   *(*real) (PGconn *, const char *, int, const Oid *, const char *const *, const int *, const int *, int) =
		next("PQexecParams");
	char		named[256];
	int			number;

	if (strncmp(command, NAMING, strlen(NAMING)) != 0 || nparams != 1)
		return real(conn, command, nparams, types, values, lengths, formats, format);
	number = number_of(conn);
	snprintf(names[number - 1], sizeof(names[0]), "%s", values[0]);
	/* Written out, since a computed setting pins a session to its connection. */
	snprintf(named, sizeof(named), NAMING ", '%s/%s', false)", PQparameterStatus(conn, "application_name"), values[0]);
	return real(conn, named, 0, NULL, NULL, NULL, NULL, format);
}

PGresult *PQprepare(PGconn *conn, const char *name, const char *query, int nparams, const Oid *types)
{
	PGresult   *(*real) (PGconn *, const char *, const char *, int, const Oid *) = next("PQprepare");
	char		asked[CONNECTIONS_MAX * sizeof(names[0]) + 1024];
	int			length;

	if (strstr(query, QUESTION) == NULL)
		return real(conn, name, query, nparams, types);
	length = snprintf(asked, sizeof(asked),
					  "WITH ours AS (SELECT pid, state, application_name AS name,"
					  "  regexp_replace(current_setting('application_name'), '[^/]*$', '') AS test"
					  "  FROM pg_stat_activity WHERE backend_type = 'client backend')"
					  "SELECT coalesce(pg_catalog." QUESTION "("
					  "  (SELECT pid FROM ours WHERE state = 'active' AND name = test || (ARRAY[''");
	for (int i = 0; i < CONNECTIONS_MAX && connections[i] != NULL; i++)
		length += snprintf(asked + length, sizeof(asked) - length, ",'%s'", names[i]);
	snprintf(asked + length, sizeof(asked) - length,
			 "])[$1::int + 1]), ARRAY(SELECT pid FROM ours WHERE starts_with(name, test))), false)");
	return real(conn, name, asked, nparams, types);
}
