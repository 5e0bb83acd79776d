// Package getter stands in for HashiCorp's, with what the rules of TFLint call when a file has
// module blocks. Ours have none; a file with one is refused here, so that no rule is passed by
// silently.
package getter

import "errors"

// Detector finds out what kind of source a module has.
type Detector interface {
	Detect(source, folder string) (string, bool, error)
}

// Detect refuses.
func Detect(source, _ string, _ []Detector) (string, error) {
	return "", errors.New("getter: a stand-in cannot detect what kind of source this is: " + source)
}

type none struct{}

func (none) Detect(source, folder string) (string, bool, error) {
	_, err := Detect(source, folder, nil)
	return "", false, err
}

// Each kind that the rules name.
type (
	BitBucketDetector struct{ none }
	FileDetector      struct{ none }
	GCSDetector       struct{ none }
	GitDetector       struct{ none }
	GitHubDetector    struct{ none }
	S3Detector        struct{ none }
)
