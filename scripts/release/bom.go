package main

import (
	"crypto/sha256"
	"errors"
	"os"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// writeBOM writes the software bill of materials of a binary, in the JSON form of
// CycloneDX. It lists the standard library, and the modules in the binary. The versions
// and checksums of modules are those that the binary records.
func (r *release) writeBOM(p platform) (err error) {
	generator, err := bin.NewGenerator(r.binary(p), bin.WithIncludeStdlib(true), bin.WithLogger(zerolog.Nop()))
	if err != nil {
		return err
	}
	bom, err := generator.Generate()
	if err != nil {
		return err
	}
	binary, err := os.ReadFile(r.binary(p))
	if err != nil {
		return err
	}
	// Derive the serial number from the binary, so that the file is reproducible.
	sum := sha256.Sum256(binary)
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceOID, sum[:]).URN()
	bom.Metadata.Timestamp = r.at.UTC().Format(time.RFC3339)

	out, err := os.Create(r.asset(p, ".sbom"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return cyclonedx.NewBOMEncoder(out, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}
