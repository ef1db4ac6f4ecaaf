package oauth

// MaxDevices is maxDevices for tests.
const MaxDevices = maxDevices

// MaxGrants is maxGrants for tests.
const MaxGrants = maxGrants

// MaxHourly is maxHourly for tests.
const MaxHourly = maxHourly

// Store returns the store of the service.
func (s *Service) Store() Store { return s.store }
