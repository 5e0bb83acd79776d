package rig

import (
	"os/exec"
	"syscall"
)

// dieWithParent ends the process also when the test binary itself is killed and runs no cleanup.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
