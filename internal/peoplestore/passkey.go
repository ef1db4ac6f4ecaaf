package peoplestore

import (
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// Keys lists the passkeys of a person.
func (t tx) Keys(person string) (list []people.Key, err error) {
	err = t.Query(func(scan func(...any) error) error {
		k := people.Key{Person: person}
		var created, used int64
		err := scan(&k.ID, &k.CredentialID, &k.Credential, &k.Name, &created, &used)
		k.CreatedAt, k.UsedAt = sqltx.Time(created), sqltx.Time(used)
		list = append(list, k)
		return err
	}, `SELECT id, credential_id, credential, name, created_at, used_at FROM passkey WHERE person = $1 ORDER BY id`, person)
	return list, err
}

// InsertKey stores a passkey.
func (t tx) InsertKey(k *people.Key) error {
	return t.Insert(`INSERT INTO passkey (id, person, credential_id, credential, name, created_at, used_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		k.ID, k.Person, k.CredentialID, k.Credential, k.Name, sqltx.Micros(k.CreatedAt), sqltx.Micros(k.UsedAt))
}

// UseKey writes UsedAt and Credential of the passkey.
func (t tx) UseKey(k *people.Key) error {
	return t.Update(`UPDATE passkey SET used_at = $2, credential = $3 WHERE id = $1`, k.ID, sqltx.Micros(k.UsedAt), k.Credential)
}

// DeleteKey deletes a passkey of a person.
func (t tx) DeleteKey(person, id string) (int64, error) {
	return t.Exec(`DELETE FROM passkey WHERE person = $1 AND id = $2`, person, id)
}

// DeleteKeys deletes the passkeys of a person.
func (t tx) DeleteKeys(person string) (int64, error) {
	return t.Exec(`DELETE FROM passkey WHERE person = $1`, person)
}
