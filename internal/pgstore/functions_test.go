//go:build unix

package pgstore

import (
	"encoding/hex"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/pgschema"
)

// functionsSum is the checksum of the SQL functions of version
// pgschema.FunctionsVersion.
const functionsSum = "52866e213833bed3f92a799d050edd7b08c4cb03cfe2f60726e8e6fe95520605"

// TestChangedFunctionsHaveANewVersion checks that a change of the functions comes
// with a new version. Under the same version, nodes of an older release would
// overwrite the new functions with their own.
func TestChangedFunctionsHaveANewVersion(t *testing.T) {
	if _, sum, err := pgschema.Functions(); err != nil || hex.EncodeToString(sum) != functionsSum {
		t.Errorf("the functions of version %d have the checksum %x, %v: after a change raise FunctionsVersion, and note the checksum here", pgschema.FunctionsVersion, sum, err)
	}
}

// names runs a query that has one text column, and returns the texts.
func names(t *testing.T, s *Store, query string) []string {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestTypesMatchTheDatabase checks that Go and the database have the same kinds of
// operations, codes of outcomes and attributes of an operation.
func TestTypesMatchTheDatabase(t *testing.T) {
	s := fresh(t)
	kinds := []string{}
	for _, k := range append(slices.Clone(olderKinds), opVoid) {
		kinds = append(kinds, string(k))
	}
	codes := []string{}
	for _, c := range olderCodes {
		codes = append(codes, string(c))
	}
	fields := []string{}
	for _, a := range attributes {
		fields = append(fields, a.name)
	}
	for query, want := range map[string][]string{
		`SELECT unnest(enum_range(NULL::operation_kind))::text`:                                                                             kinds,
		`SELECT unnest(enum_range(NULL::outcome_code))::text`:                                                                               codes,
		`SELECT attname::text FROM pg_attribute WHERE attrelid = 'operation'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`: fields,
	} {
		if got := names(t, s, query); !slices.Equal(got, want) {
			t.Errorf("%s: the database has %v, Go has %v", query, got, want)
		}
	}
}

// TestFunctionsOfAHigherVersionStay checks that a node replaces functions of a lower
// version and keeps functions of a higher version.
func TestFunctionsOfAHigherVersionStay(t *testing.T) {
	dsn := cluster.Database(t, template)
	for _, test := range []struct {
		version int
		stays   bool
	}{{pgschema.FunctionsVersion - 1, false}, {pgschema.FunctionsVersion + 1, true}} {
		query(t, dsn, `CREATE OR REPLACE FUNCTION renew(o record, v_expires timestamptz) RETURNS effect LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`)
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), `UPDATE functions SET version = $1, sum = 'x'`, test.version); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		together(3, func(int) { // start three nodes at once
			if _, _, err := Migrate(t.Context(), Options{DSN: dsn}, nil); err != nil {
				t.Error(err)
			}
		})
		if n := count(t, dsn, `SELECT count(*) FROM pg_proc WHERE proname = 'renew' AND prosrc = 'BEGIN RETURN NULL; END'`); (n == 1) != test.stays {
			t.Errorf("functions of version %d beside a node of version %d: stayed is %v, want %v", test.version, pgschema.FunctionsVersion, n == 1, test.stays)
		}
	}
}
