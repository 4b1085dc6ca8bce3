/** Raw samples of one frame, pixel after pixel: words as stored, not yet shifted, masked or signed. */
export interface DecodedFrame {
  readonly samples: Uint8Array | Uint16Array | Uint32Array;
  readonly samplesPerPixel: number;
  /** Colours after what the codec itself undid: `RGB`, `YBR_FULL`, `MONOCHROME2`, `PALETTE COLOR`… */
  readonly photometricInterpretation: string;
  /** The codec has put the sample into the low bits already. */
  readonly aligned: boolean;
}
