package opening

import (
	"errors"
	"testing"

	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/exchange"
)

// TestTranslatedErrors checks that a translated error keeps the text of the engine's
// error, and that errors.Is finds both that error and the corresponding error of
// package exchange.
func TestTranslatedErrors(t *testing.T) {
	err := error(&translated{engine.ErrIDTaken, exchange.ErrIDTaken})
	if err.Error() != engine.ErrIDTaken.Error() || !errors.Is(err, exchange.ErrIDTaken) || !errors.Is(err, engine.ErrIDTaken) || errors.Is(err, exchange.ErrSessionFull) {
		t.Errorf("%v", err)
	}
}
