"""The voices of espeak-ng, by its library."""

import ctypes
from ctypes.util import find_library

import torch
from torch import Tensor

from protogen.errors import NotFound

SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS of speak_lib.h: what is said comes back before the call does
RATE, PITCH = 1, 3  # espeakRATE and espeakPITCH
UTF8 = 1  # espeakCHARS_UTF8
HEARD = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Speech:
    """What espeak-ng says, as samples; one for a process, since the library holds one voice.

    Raises NotFound where the library is not there, or speaks at another `rate` of samples a second.
    """

    def __init__(self, rate: int) -> None:
        name = find_library("espeak-ng")
        if name is None:
            raise NotFound("words need espeak-ng, which is not installed", "install the Debian package espeak-ng")
        self._library = ctypes.CDLL(name)
        spoken = self._library.espeak_Initialize(SYNCHRONOUS, 0, None, 0)
        if spoken != rate:
            raise NotFound(
                f"espeak-ng speaks at {spoken} samples a second, needed are {rate}",
                "install the Debian package espeak-ng anew, with its voices",
            )
        self._parts: list[bytes] = []
        self._callback = HEARD(self._hear)  # held, since the library calls it as long as it speaks
        self._library.espeak_SetSynthCallback(self._callback)

    def _hear(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: int | None) -> int:
        if count > 0:
            self._parts.append(ctypes.string_at(samples, 2 * count))
        return 0

    def say(self, text: str, voice: str, speed: int = 175, pitch: int = 50) -> Tensor:
        """Say a text, `speed` in words a minute, `pitch` from 0 to 100: samples (samples,) from -32768 to 32767.

        Silence at both ends is cut off. Raises NotFound where there is no such voice.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise NotFound(f"espeak-ng has no voice {voice!r}", "install the Debian package espeak-ng-data")
        self._library.espeak_SetParameter(RATE, speed, 0)
        self._library.espeak_SetParameter(PITCH, pitch, 0)
        self._parts.clear()
        raw = text.encode()
        self._library.espeak_Synth(raw, len(raw) + 1, 0, 1, 0, UTF8, None, None)
        sound = torch.frombuffer(bytearray(b"".join(self._parts)), dtype=torch.int16).float()
        loud = (sound.abs() > 100).nonzero().flatten()
        return sound[int(loud[0]) : int(loud[-1]) + 1] if len(loud) else sound[:0]
