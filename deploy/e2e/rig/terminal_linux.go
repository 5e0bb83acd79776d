package rig

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"unsafe"
)

// StartOnTerminal is StartProcess for a program that wants to be looked at: it gets a terminal of
// its own, wide enough that no URL is broken into lines. What it writes is in the logs.
func StartOnTerminal(t T, logs *Logs, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	master, slave, err := openTerminal()
	if err != nil {
		t.Fatalf("rig: %s: a terminal: %v", name, err)
	}
	t.Cleanup(func() { master.Close() })
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	dieWithParent(cmd)
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	if err := cmd.Start(); err != nil {
		t.Fatalf("rig: %s: %v", name, err)
	}
	slave.Close()
	p := &Process{Name: name, cmd: cmd, done: make(chan struct{}), terminal: master}
	read := make(chan struct{})
	go func() {
		defer close(read)
		// ends with EIO when nobody has the other side any more
		_, _ = io.Copy(logs.writer(name), master)
	}()
	go func() {
		_ = cmd.Wait()
		<-read
		close(p.done)
	}()
	t.Cleanup(p.Kill)
	return p
}

// openTerminal opens a pseudo-terminal (pty(7)).
func openTerminal() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	control := func(request uintptr, argument unsafe.Pointer) {
		if _, _, no := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(argument)); no != 0 && err == nil {
			err = no
		}
	}
	var locked, number int32
	size := [4]uint16{50, 4000} // rows and columns
	control(syscall.TIOCSPTLCK, unsafe.Pointer(&locked))
	control(syscall.TIOCGPTN, unsafe.Pointer(&number))
	control(syscall.TIOCSWINSZ, unsafe.Pointer(&size))
	if err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	return master, slave, err
}
