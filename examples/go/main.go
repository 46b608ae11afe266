// SPDX-License-Identifier: Apache-2.0

// A client of mmfreed on containerd's ttrpc: the framing is theirs, the messages are the few fields it uses. And a model's
// descriptor, which ttrpc cannot carry, from the socket beside it.
//
//	mmfree-go SOCKET PROMPT
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/gogo/protobuf/proto"
)

// proto/mmfree/v1/inference.proto and share.proto have the whole of these messages.

type GenerateRequest struct {
	Model     string         `protobuf:"bytes,1,opt,name=model,proto3"`
	Text      []byte         `protobuf:"bytes,2,opt,name=text,proto3"`
	MaxTokens uint32         `protobuf:"varint,4,opt,name=max_tokens,proto3"`
	Sampling  *GreedyOptions `protobuf:"bytes,5,opt,name=sampling,proto3"`
}

// GreedyOptions is Sampling with the temperature sent even when it is zero, which is not the default.
type GreedyOptions struct {
	Temperature *float32 `protobuf:"fixed32,1,opt,name=temperature"`
}

type GenerateResponse struct {
	Text   []byte   `protobuf:"bytes,2,opt,name=text,proto3"`
	Tokens []uint32 `protobuf:"varint,3,rep,packed,name=tokens,proto3"`
}

type EmbedInput struct {
	Text []byte `protobuf:"bytes,1,opt,name=text,proto3"`
}

type EmbedRequest struct {
	Model     string        `protobuf:"bytes,1,opt,name=model,proto3"`
	Input     []*EmbedInput `protobuf:"bytes,2,rep,name=input,proto3"`
	Normalize bool          `protobuf:"varint,4,opt,name=normalize,proto3"`
}

type Embedding struct {
	Index      uint32    `protobuf:"varint,1,opt,name=index,proto3"`
	Dimensions uint32    `protobuf:"varint,2,opt,name=dimensions,proto3"`
	Values     []float32 `protobuf:"fixed32,3,rep,packed,name=values,proto3"`
}

type EmbedResponse struct {
	Embeddings []*Embedding `protobuf:"bytes,4,rep,name=embeddings,proto3"`
}

type ShareRequest struct {
	Model string `protobuf:"bytes,1,opt,name=model,proto3"`
}

type ShareResponse struct {
	Name      string `protobuf:"bytes,1,opt,name=name,proto3"`
	FileBytes uint64 `protobuf:"varint,3,opt,name=file_bytes,proto3"`
}

type Status struct {
	Code    int32  `protobuf:"varint,1,opt,name=code,proto3"`
	Message string `protobuf:"bytes,2,opt,name=message,proto3"`
}

func (m *GenerateRequest) Reset()          { *m = GenerateRequest{} }
func (m *GenerateRequest) String() string  { return proto.CompactTextString(m) }
func (m *GenerateRequest) ProtoMessage()   {}
func (m *GreedyOptions) Reset()            { *m = GreedyOptions{} }
func (m *GreedyOptions) String() string    { return proto.CompactTextString(m) }
func (m *GreedyOptions) ProtoMessage()     {}
func (m *GenerateResponse) Reset()         { *m = GenerateResponse{} }
func (m *GenerateResponse) String() string { return proto.CompactTextString(m) }
func (m *GenerateResponse) ProtoMessage()  {}
func (m *EmbedInput) Reset()               { *m = EmbedInput{} }
func (m *EmbedInput) String() string       { return proto.CompactTextString(m) }
func (m *EmbedInput) ProtoMessage()        {}
func (m *EmbedRequest) Reset()             { *m = EmbedRequest{} }
func (m *EmbedRequest) String() string     { return proto.CompactTextString(m) }
func (m *EmbedRequest) ProtoMessage()      {}
func (m *Embedding) Reset()                { *m = Embedding{} }
func (m *Embedding) String() string        { return proto.CompactTextString(m) }
func (m *Embedding) ProtoMessage()         {}
func (m *EmbedResponse) Reset()            { *m = EmbedResponse{} }
func (m *EmbedResponse) String() string    { return proto.CompactTextString(m) }
func (m *EmbedResponse) ProtoMessage()     {}
func (m *ShareRequest) Reset()             { *m = ShareRequest{} }
func (m *ShareRequest) String() string     { return proto.CompactTextString(m) }
func (m *ShareRequest) ProtoMessage()      {}
func (m *ShareResponse) Reset()            { *m = ShareResponse{} }
func (m *ShareResponse) String() string    { return proto.CompactTextString(m) }
func (m *ShareResponse) ProtoMessage()     {}
func (m *Status) Reset()                   { *m = Status{} }
func (m *Status) String() string           { return proto.CompactTextString(m) }
func (m *Status) ProtoMessage()            {}

// share maps a model that the daemon serves, its very pages; the empty name is the default model's.
func share(path, model string) (*ShareResponse, []byte, error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	question, err := proto.Marshal(&ShareRequest{Model: model})
	if err != nil {
		return nil, nil, err
	}
	if _, err := conn.Write(question); err != nil {
		return nil, nil, err
	}
	// Go receives descriptors with MSG_CMSG_CLOEXEC.
	data, control := make([]byte, 8192), make([]byte, syscall.CmsgLen(4))
	count, controlCount, flags, _, err := conn.ReadMsgUnix(data, control)
	if err != nil {
		return nil, nil, err
	}
	if flags&(syscall.MSG_CTRUNC|syscall.MSG_TRUNC) != 0 {
		return nil, nil, fmt.Errorf("the answer was cut")
	}
	descriptors, err := received(control[:controlCount])
	if err != nil {
		return nil, nil, err
	}
	if len(descriptors) == 0 {
		status := &Status{}
		if err := proto.Unmarshal(data[:count], status); err != nil {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("code %d: %s", status.Code, status.Message)
	}
	defer syscall.Close(descriptors[0]) // the mapping stays
	answer := &ShareResponse{}
	if err := proto.Unmarshal(data[:count], answer); err != nil {
		return nil, nil, err
	}
	mapping, err := syscall.Mmap(descriptors[0], 0, int(answer.FileBytes), syscall.PROT_READ, syscall.MAP_SHARED)
	return answer, mapping, err
}

func received(control []byte) ([]int, error) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	return syscall.ParseUnixRights(&messages[0])
}

func run(path, prompt string) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	zero := float32(0)
	question := &GenerateRequest{Text: []byte(prompt), MaxTokens: 24, Sampling: &GreedyOptions{Temperature: &zero}}
	answer := &GenerateResponse{}
	if err := client.Call(ctx, "mmfree.v1.Inference", "Generate", question, answer); err != nil {
		return err
	}
	fmt.Printf("generate:%s\n", answer.Text)

	vectors := &EmbedResponse{}
	texts := &EmbedRequest{Input: []*EmbedInput{{Text: []byte(prompt)}, {Text: []byte("another")}}, Normalize: true}
	if err := client.Call(ctx, "mmfree.v1.Inference", "Embed", texts, vectors); err != nil {
		return err
	}
	for _, vector := range vectors.Embeddings {
		sum := 0.0
		for _, value := range vector.Values {
			sum += float64(value) * float64(value)
		}
		fmt.Printf("embed: input %d, %d dimensions, squared length %.4f\n", vector.Index, vector.Dimensions, sum)
	}
	if err := client.Call(ctx, "mmfree.v1.Inference", "Nothing", question, answer); err == nil {
		return fmt.Errorf("an unknown method was answered")
	}

	place := os.Getenv("MMFREED_SHARE_SOCKET")
	if place == "" {
		place = filepath.Join(filepath.Dir(path), "share.sock")
	}
	model, mapping, err := share(place, "")
	if err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	defer syscall.Munmap(mapping)
	fmt.Printf("share: %s, %d bytes mapped, a %s file\n", model.Name, len(mapping), mapping[:4])
	return nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: mmfree-go SOCKET PROMPT")
		os.Exit(64)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "mmfree-go:", err)
		os.Exit(1)
	}
}
