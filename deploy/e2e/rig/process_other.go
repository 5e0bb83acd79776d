//go:build !linux

package rig

import "os/exec"

// dieWithParent cannot be asked for here: a killed test binary leaves its processes behind.
func dieWithParent(*exec.Cmd) {}
