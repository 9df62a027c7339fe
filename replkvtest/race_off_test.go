//go:build !race

package replkvtest

const raceDetector = false
