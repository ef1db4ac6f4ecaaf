package people

// Cheapen makes the hashing of passwords fast. Hashes that were made before count as
// outdated, because their cost differs.
func (s *Service) Cheapen() { s.hasher = newHasher(cost{memory: 64, passes: 1, threads: 1}) }

// Dear raises the cost of hashing above the cost of Cheapen, so that hashes made after
// Cheapen count as outdated.
func (s *Service) Dear() { s.hasher = newHasher(cost{memory: 128, passes: 1, threads: 1}) }

// The bounds that tests check.
const (
	MaxCeremonies = maxCeremonies
	MaxHashing    = maxHashing
	MaxWaiting    = maxWaiting
)

// CommonCount returns the number of common passwords.
func CommonCount() int { return len(commonPasswords()) }

// CheckPassword returns the error that refuses a password, or nil.
func CheckPassword(password string, personal ...string) error {
	return checkPassword(password, personal...)
}

// NormalEmail returns the normal form of an e-mail address.
func NormalEmail(email string) (string, error) { return normalEmail(email) }
